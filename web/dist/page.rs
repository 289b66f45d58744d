// Written by the build of `web/`: the files of the page, for `crates/server/src/page.rs`.
&[
    File {
        path: "/assets/highlight-VJuAA3wi.js",
        kind: "text/javascript; charset=utf-8",
        tag: "7d02ff4ca3760c9d",
        plain: include_bytes!("assets/highlight-VJuAA3wi.js"),
        gzip: include_bytes!("assets/highlight-VJuAA3wi.js.gz"),
    },
    File {
        path: "/assets/icon-iDelYsDt.svg",
        kind: "image/svg+xml",
        tag: "33df9c45efa7eb75",
        plain: include_bytes!("assets/icon-iDelYsDt.svg"),
        gzip: include_bytes!("assets/icon-iDelYsDt.svg.gz"),
    },
    File {
        path: "/assets/index-DAC7aLPq.css",
        kind: "text/css; charset=utf-8",
        tag: "48ce3d9d388cc401",
        plain: include_bytes!("assets/index-DAC7aLPq.css"),
        gzip: include_bytes!("assets/index-DAC7aLPq.css.gz"),
    },
    File {
        path: "/assets/index-xjxFxK_W.js",
        kind: "text/javascript; charset=utf-8",
        tag: "e7feec400b995ce7",
        plain: include_bytes!("assets/index-xjxFxK_W.js"),
        gzip: include_bytes!("assets/index-xjxFxK_W.js.gz"),
    },
    File {
        path: "/index.html",
        kind: "text/html; charset=utf-8",
        tag: "6d6433321693978e",
        plain: include_bytes!("index.html"),
        gzip: include_bytes!("index.html.gz"),
    },
]
