//! TLS before a server that speaks none: a certificate of one's own, in time or expired, and a listener that passes bytes on.
//!
//! Invariant: what comes is passed on as it came; without a handshake nothing is.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::s3_server::Endpoint;

/// How `openssl ca` signs.
const RULES: &str = "[ca]
default_ca = own
[own]
dir = .
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1
";

/// A certificate for 127.0.0.1 that nobody signed but itself.
pub struct Certificate {
    /// What whoever trusts it names as `SSL_CERT_FILE`.
    pub file: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one in `dir`, whose last day is in the year `until`; `None` where there is no `openssl`.
    #[allow(
        clippy::disallowed_methods,
        reason = "a server of its own, outside of what is tested"
    )]
    pub fn make(dir: &Path, until: u32) -> io::Result<Option<Self>> {
        std::fs::write(dir.join("rules"), RULES)?;
        std::fs::write(dir.join("index.txt"), "")?;
        std::fs::write(dir.join("serial"), "01")?;
        let end = format!("{until}0201000000Z");
        let asked = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key -out asked -subj /CN=localhost";
        let signed = format!(
            "ca -config rules -selfsign -keyfile key -in asked -startdate 20200101000000Z -enddate {end} -batch -notext -out certificate"
        );
        for words in [asked, &signed] {
            let ended = Command::new("openssl")
                .args(words.split(' '))
                .current_dir(dir)
                .output();
            match ended {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&output.stderr).into_owned(),
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Self {
            file: dir.join("certificate"),
            key: dir.join("key"),
        }))
    }
}

/// A listener that speaks TLS; ends when dropped.
pub struct TlsFront {
    /// Where it answers, with the keys of the server behind it.
    pub endpoint: Endpoint,
    accepting: AbortHandle,
}

impl TlsFront {
    /// Starts one before `server`.
    #[expect(clippy::disallowed_methods, reason = "a server of tests has tasks of its own")]
    pub async fn start(server: &Endpoint, certificate: &Certificate) -> io::Result<Self> {
        let chain = vec![CertificateDer::from_pem_file(&certificate.file).map_err(io::Error::other)?];
        let key = PrivateKeyDer::from_pem_file(&certificate.key).map_err(io::Error::other)?;
        let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = Endpoint {
            url: format!("https://{}", listener.local_addr()?),
            ..server.clone()
        };
        let behind = server.url.trim_start_matches("http://").to_string();
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                open.spawn(async move {
                    // Who does not trust us ends the handshake, and that is the end of it.
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect(behind).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            endpoint,
            accepting: accepting.abort_handle(),
        })
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
