// Written by the build of `web/`: the files of the page, for `crates/server/src/page.rs`.
&[
    File {
        path: "/assets/highlight-DvdEonZA.js",
        kind: "text/javascript; charset=utf-8",
        tag: "cbc4d47b5d577449",
        plain: include_bytes!("assets/highlight-DvdEonZA.js"),
        gzip: include_bytes!("assets/highlight-DvdEonZA.js.gz"),
    },
    File {
        path: "/assets/icon-iDelYsDt.svg",
        kind: "image/svg+xml",
        tag: "33df9c45efa7eb75",
        plain: include_bytes!("assets/icon-iDelYsDt.svg"),
        gzip: include_bytes!("assets/icon-iDelYsDt.svg.gz"),
    },
    File {
        path: "/assets/index-6MMeQndu.js",
        kind: "text/javascript; charset=utf-8",
        tag: "f6e019376e5122d9",
        plain: include_bytes!("assets/index-6MMeQndu.js"),
        gzip: include_bytes!("assets/index-6MMeQndu.js.gz"),
    },
    File {
        path: "/assets/index-DAC7aLPq.css",
        kind: "text/css; charset=utf-8",
        tag: "48ce3d9d388cc401",
        plain: include_bytes!("assets/index-DAC7aLPq.css"),
        gzip: include_bytes!("assets/index-DAC7aLPq.css.gz"),
    },
    File {
        path: "/index.html",
        kind: "text/html; charset=utf-8",
        tag: "11c67ec1ec412134",
        plain: include_bytes!("index.html"),
        gzip: include_bytes!("index.html.gz"),
    },
]
