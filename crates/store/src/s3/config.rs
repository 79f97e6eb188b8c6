//! Where a bucket is and who we are there: from the URL, the environment and the AWS profile files.
//!
//! Invariant: a secret is held by the signer alone and is printed by nothing (security rule SK1).

use std::sync::Arc;
use std::time::Duration;

use reqsign_aws_v4::{
    Credential, DefaultCredentialProvider, ProfileCredentialProvider, RequestSigner, StaticCredentialProvider,
};
use reqsign_core::{Context, Env, OsEnv, Signer, StaticEnv};
use reqsign_file_read_tokio::TokioFileRead;
use syncline_model::{Fault, Kind, Result};

use super::wire::Wire;
use crate::layers::{Meter, Patience, RetryRule};
use crate::url::{S3Place, Style, endpoint};
use crate::world::World;

/// Keys handed in by a program (an embedded server's, a key ring's); people's come from environment and files.
#[derive(Clone)]
pub struct Keys {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// Sizes and numbers.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Smallest part of an upload; what is smaller goes in one request.
    pub part: usize,
    /// Parts that are under way at once in the whole store; bounds memory together with `part`.
    pub parts_in_flight: usize,
    /// A connection on which nothing moves for this long is given up.
    pub stall: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            part: 8 << 20,
            parts_in_flight: 6,
            stall: Duration::from_secs(60),
        }
    }
}

/// What a store is opened with beside its URL.
#[derive(Clone)]
pub struct S3Options {
    /// Time, randomness and spawning.
    pub world: World,
    /// Counts requests.
    pub meter: Meter,
    /// Keys to use instead of those of the environment and the files.
    pub keys: Option<Keys>,
    /// Sizes and numbers.
    pub sizes: Sizes,
    /// How parts are tried again; share it with the retry layer.
    pub patience: Arc<Patience>,
}

impl S3Options {
    /// The usual ones.
    pub fn new(world: World) -> Self {
        let patience = Arc::new(Patience::new(world.clone(), RetryRule::default()));
        Self {
            world,
            meter: Meter::default(),
            keys: None,
            sizes: Sizes::default(),
            patience,
        }
    }
}

/// Everything that a request needs to know of its target.
pub(crate) struct Target {
    pub(crate) label: String,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    /// Scheme and authority that requests go to.
    pub(crate) base: String,
    /// The path that comes before the key: `/` or `/bucket/`.
    pub(crate) root: String,
}

/// Names and values of one profile in an AWS file.
fn profile_values(text: &str, wanted: &[String]) -> Vec<(String, String)> {
    let mut here = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(head) = line
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            here = wanted.iter().any(|name| name == head.trim());
        } else if here
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            found.push((name.trim().to_string(), value.trim().to_string()));
        }
    }
    found
}

/// Environment and files, as one question.
struct Ambient {
    reader: Context,
    profile: String,
    file: Vec<(String, String)>,
}

impl Ambient {
    async fn load(reader: Context, place: &S3Place) -> Self {
        let named = place
            .profile
            .clone()
            .or_else(|| reader.env_var("AWS_PROFILE"))
            .filter(|name| !name.is_empty());
        let profile = named.unwrap_or_else(|| "default".to_string());
        let path = reader
            .env_var("AWS_CONFIG_FILE")
            .unwrap_or_else(|| "~/.aws/config".to_string());
        let text = match reader.expand_home_dir(&path) {
            Some(path) => reader.file_read_as_string(&path).await.unwrap_or_default(),
            None => String::new(),
        };
        let file = profile_values(&text, &[profile.clone(), format!("profile {profile}")]);
        Self {
            reader,
            profile,
            file,
        }
    }

    fn get(&self, variables: &[&str], setting: &str) -> Option<String> {
        let set = variables
            .iter()
            .find_map(|name| self.reader.env_var(name).filter(|value| !value.is_empty()));
        let filed = || {
            self.file
                .iter()
                .find(|(name, _)| name == setting)
                .map(|(_, value)| value.clone())
        };
        set.or_else(filed)
    }
}

/// Finds endpoint and region, and builds the signer.
pub(crate) async fn resolve(
    place: &S3Place,
    options: &S3Options,
    wire: &Wire,
) -> Result<(Target, Signer<Credential>)> {
    let environment = OsEnv;
    let reader = Context::new()
        .with_file_read(TokioFileRead)
        .with_http_send(wire.clone())
        .with_env(environment);
    let ambient = Ambient::load(reader.clone(), place).await;
    let from_url = place.endpoint.clone();
    let set = from_url.or_else(|| ambient.get(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], "endpoint_url"));
    let own = set.map(|text| endpoint(&place.label(), &text)).transpose()?;
    let region = place
        .region
        .clone()
        .or_else(|| ambient.get(&["AWS_REGION", "AWS_DEFAULT_REGION"], "region"));
    let region = region.unwrap_or_else(|| "us-east-1".to_string());
    if !region
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(Fault::new(
            Kind::Invalid,
            "a region has letters, digits and '-'",
            place.label(),
        ));
    }
    let amazon = own.is_none();
    // A dot in a bucket's name breaks the certificate of a host that is made of it.
    let usual = if amazon && !place.bucket.contains('.') {
        Style::Virtual
    } else {
        Style::Path
    };
    let server = own.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let (base, root) = match place.style.unwrap_or(usual) {
        Style::Path => (server, format!("/{}/", place.bucket)),
        Style::Virtual => (
            server.replacen("://", &format!("://{}.", place.bucket), 1),
            "/".to_string(),
        ),
    };
    let target = Target {
        label: place.label(),
        bucket: place.bucket.clone(),
        prefix: place.prefix.clone(),
        base,
        root,
    };
    Ok((target, signer(place, options, ambient, &region, amazon)))
}

fn signer(
    place: &S3Place,
    options: &S3Options,
    ambient: Ambient,
    region: &str,
    amazon: bool,
) -> Signer<Credential> {
    let rule = RequestSigner::new("s3", region);
    if let Some(keys) = &options.keys {
        return Signer::new(
            ambient.reader,
            StaticCredentialProvider::new(&keys.id, &keys.secret),
            rule,
        );
    }
    // A profile that the URL names outranks the variables, as `--profile` does elsewhere.
    let mut chain = DefaultCredentialProvider::builder()
        .profile(ProfileCredentialProvider::new().with_profile(ambient.profile.clone()));
    if place.profile.is_some() {
        chain = chain.no_env();
    }
    // Elsewhere than at Amazon nobody answers at the address of a machine's own role.
    if !amazon {
        chain = chain.no_imds().no_ecs();
    }
    let os = OsEnv;
    let mut envs = os.vars();
    envs.insert("AWS_PROFILE".to_string(), ambient.profile);
    let seen = StaticEnv {
        home_dir: os.home_dir(),
        envs,
    };
    Signer::new(ambient.reader.with_env(seen), chain.build(), rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_profile_of_a_file() {
        let text = "[default]\nregion = a\n[profile work]\n region = no\nregion=b\nendpoint_url = http://h:1\ns3 =\n  x = 1\n[z]\nregion=c";
        let found = profile_values(text, &["work".into(), "profile work".into()]);
        assert_eq!(found[0], ("region".to_string(), "b".to_string()));
        assert_eq!(found[1], ("endpoint_url".to_string(), "http://h:1".to_string()));
        assert!(!found.iter().any(|(name, _)| name == "x"));
    }

    #[test]
    fn sk1_keys_are_not_printed() {
        let keys = Keys {
            id: "AKIACANARY".into(),
            secret: "CANARY".into(),
        };
        assert!(!format!("{keys:?}").contains("CANARY"));
    }
}
