# Short names for what cargo and cargo xtask do.
default: test

# Everything that must hold before a change lands.
test:
    cargo xtask test

tidy:
    cargo xtask tidy

fmt:
    cargo fmt --all

fuzz seconds="20":
    cargo xtask fuzz {{seconds}}

build:
    cargo build --release
