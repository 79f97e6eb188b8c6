//! `s3-server DIR [--port P] [BUCKET…]`: an S3 server on the loopback, for the demo. Prints the lines that a shell needs
//! to reach it, and serves until it is stopped.

use std::path::PathBuf;
use std::process::ExitCode;

use syncline_testkit::s3_server::S3Server;

const USAGE: &str = "usage: s3-server DIR [--port P] [BUCKET...]";

#[tokio::main]
async fn main() -> ExitCode {
    let (mut dir, mut port, mut buckets) = (None, 0, Vec::new());
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        if word == "--port" {
            match words.next().and_then(|word| word.to_str()?.parse().ok()) {
                Some(number) => port = number,
                None => return wrong(USAGE),
            }
        } else if dir.is_none() {
            dir = Some(PathBuf::from(word));
        } else {
            buckets.push(word.to_string_lossy().into_owned());
        }
    }
    let Some(dir) = dir else { return wrong(USAGE) };
    let (server, double) = match S3Server::start_in(dir, port).await {
        Ok(started) => started,
        Err(error) => return wrong(&format!("s3-server: {error}")),
    };
    for bucket in buckets {
        if let Err(error) = double.make_bucket(&bucket) {
            return wrong(&format!("s3-server: {bucket}: {error}"));
        }
    }
    println!("AWS_ENDPOINT_URL={}", server.endpoint.url);
    println!("AWS_ACCESS_KEY_ID={}", server.endpoint.id);
    println!("AWS_SECRET_ACCESS_KEY={}", server.endpoint.secret);
    println!("AWS_REGION=us-east-1");
    let _ = tokio::signal::ctrl_c().await;
    ExitCode::SUCCESS
}

fn wrong(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(64)
}
