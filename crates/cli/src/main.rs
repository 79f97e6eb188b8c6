//! The one binary.
#![forbid(unsafe_code)]
#![allow(dead_code)]

mod args;
mod config;
mod exit;
mod intent;
mod kept;
mod place;
mod render;
mod values;

fn main() {
    let _ = args::read(std::env::args_os());
}
