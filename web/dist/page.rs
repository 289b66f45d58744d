// Written by the build of `web/`: the files of the page, for `crates/server/src/page.rs`.
&[
    File {
        path: "/assets/highlight-CVbyTWTE.js",
        kind: "text/javascript; charset=utf-8",
        tag: "bd3eec8513138ebc",
        plain: include_bytes!("assets/highlight-CVbyTWTE.js"),
        gzip: include_bytes!("assets/highlight-CVbyTWTE.js.gz"),
    },
    File {
        path: "/assets/icon-iDelYsDt.svg",
        kind: "image/svg+xml",
        tag: "33df9c45efa7eb75",
        plain: include_bytes!("assets/icon-iDelYsDt.svg"),
        gzip: include_bytes!("assets/icon-iDelYsDt.svg.gz"),
    },
    File {
        path: "/assets/index-BAcYGQRO.js",
        kind: "text/javascript; charset=utf-8",
        tag: "f89b44c39e1d8e1a",
        plain: include_bytes!("assets/index-BAcYGQRO.js"),
        gzip: include_bytes!("assets/index-BAcYGQRO.js.gz"),
    },
    File {
        path: "/assets/index-D4IrDmdy.css",
        kind: "text/css; charset=utf-8",
        tag: "e6f89e6359a7607c",
        plain: include_bytes!("assets/index-D4IrDmdy.css"),
        gzip: include_bytes!("assets/index-D4IrDmdy.css.gz"),
    },
    File {
        path: "/index.html",
        kind: "text/html; charset=utf-8",
        tag: "f526d1f7d4748115",
        plain: include_bytes!("index.html"),
        gzip: include_bytes!("index.html.gz"),
    },
]
