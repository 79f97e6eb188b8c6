//! A moto server of one's own: strict conditions, exact keys. Skipped, and said so, where moto is not installed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::s3_server::Endpoint;

/// A running moto server; ends when dropped.
pub struct Moto {
    child: Child,
    /// Where it answers.
    pub endpoint: Endpoint,
}

impl Moto {
    /// Starts one on a free port; `None`, with the reason printed, when moto cannot be run here.
    #[expect(
        clippy::disallowed_methods,
        reason = "a server of tests is another program, waited for in real time"
    )]
    pub async fn start() -> Option<Self> {
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS", "true")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                println!(
                    "skipped: moto_server cannot be run here ({error}); install it with: pip install 'moto[server]'"
                );
                return None;
            }
        };
        let output = child.stderr.take().expect("piped");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            // Read to the end: a full pipe would stop the server.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(url) = line
                    .split_whitespace()
                    .find(|word| word.starts_with("http://127.0.0.1:"))
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(url.trim_end_matches('/').to_string());
                }
            }
        });
        let url = tokio::time::timeout(Duration::from_secs(60), receiver).await;
        let url = url.expect("moto says where it listens").expect("moto starts");
        Some(Self {
            child,
            endpoint: Endpoint {
                url,
                id: "AKIDMOTO".into(),
                secret: "moto-secret".into(),
            },
        })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
