//! Places in stores as a person writes them: `s3://bucket/prefix?endpoint=URL&region=R`.
//!
//! Invariant: no control character and no credential passes (security rules SK1, SK5); what an error repeats of a URL
//! is its place without user and query.

use syncline_model::{Fault, Kind, Result};

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Virtual,
}

/// A place in an S3 bucket. Several trees live in one bucket below prefixes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What every key of this store begins with: empty, or ending in `/`.
    pub prefix: String,
    /// Scheme and authority of the server; `None`: from the environment, else Amazon's.
    pub endpoint: Option<String>,
    /// The region; `None`: from the environment, else `us-east-1`.
    pub region: Option<String>,
    /// How the bucket is named; `None`: by path on an own endpoint, by host at Amazon.
    pub style: Option<Style>,
    /// The profile of the AWS files; `None`: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
}

impl S3Place {
    /// The place as a label: no query, no secrets.
    pub fn label(&self) -> String {
        let prefix = self.prefix.strip_suffix('/').unwrap_or(&self.prefix);
        if prefix.is_empty() {
            format!("s3://{}", self.bucket)
        } else {
            format!("s3://{}/{prefix}", self.bucket)
        }
    }
}

/// What of a URL may be repeated: everything before the query, without a user.
pub fn masked(url: &str) -> String {
    let place = url.split(['?', '#']).next().unwrap_or_default();
    let shown = match place.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest
                .split_once('/')
                .map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host
                .rsplit_once('@')
                .map_or(host.to_string(), |(_, host)| format!("***@{host}"));
            path.map_or(format!("{scheme}://{host}"), |path| {
                format!("{scheme}://{host}/{path}")
            })
        }
        None => place.to_string(),
    };
    shown.escape_debug().to_string()
}

fn invalid(url: &str, what: impl Into<String>) -> Fault {
    Fault::new(Kind::Invalid, what, masked(url))
}

fn decode(url: &str, text: &str) -> Result<String> {
    let bytes = text.as_bytes();
    let broken = bytes
        .iter()
        .enumerate()
        .filter(|&(_, &b)| b == b'%')
        .any(|(at, _)| {
            !bytes
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
    if broken {
        return Err(invalid(url, "'%' begins a code of two hex digits").hint("write a plain '%' as %25"));
    }
    let text = percent_encoding::percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| invalid(url, "not UTF-8 after decoding"))?;
    if text.chars().any(char::is_control) {
        return Err(invalid(url, "control characters are not accepted in a URL"));
    }
    Ok(text.into_owned())
}

/// Reads `s3://bucket/prefix?endpoint=URL&region=R&style=path|virtual&profile=NAME`.
pub fn s3_place(url: &str) -> Result<S3Place> {
    if url.chars().any(char::is_control) {
        return Err(invalid(url, "control characters are not accepted in a URL"));
    }
    let rest = url
        .strip_prefix("s3://")
        .ok_or_else(|| invalid(url, "not an s3:// URL"))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.contains('@') {
        let fault = invalid(url, "credentials do not belong in a URL");
        return Err(fault.hint("use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !(1..=255).contains(&bucket.len()) || !bucket.bytes().all(plain) {
        return Err(invalid(
            url,
            "a bucket's name has letters, digits, '-', '.' and '_'",
        ));
    }
    let mut prefix = decode(url, prefix)?;
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let mut found = S3Place {
        bucket: bucket.to_string(),
        prefix,
        endpoint: None,
        region: None,
        style: None,
        profile: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(url, value)?;
        match name {
            "endpoint" => found.endpoint = Some(endpoint(url, &value)?),
            "region" => found.region = Some(value),
            "profile" => found.profile = Some(value),
            "style" if value == "path" => found.style = Some(Style::Path),
            "style" if value == "virtual" => found.style = Some(Style::Virtual),
            "style" => return Err(invalid(url, "style is 'path' or 'virtual'")),
            _ if ["key", "secret", "token", "password"]
                .iter()
                .any(|word| name.to_lowercase().contains(word)) =>
            {
                let fault = invalid(url, "credentials do not belong in a URL");
                return Err(
                    fault.hint("use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials")
                );
            }
            _ => return Err(invalid(url, "after '?' come endpoint, region, style and profile")),
        }
    }
    Ok(found)
}

/// Checks an endpoint and returns its scheme and authority.
pub fn endpoint(url: &str, text: &str) -> Result<String> {
    let full = if text.contains("://") {
        text.to_string()
    } else {
        format!("https://{text}")
    };
    let wrong = || invalid(url, "an endpoint is http://host:port or https://host");
    let uri: http::Uri = full.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    let bare = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
    if !matches!(scheme, "http" | "https") || authority.as_str().contains('@') || !bare {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bucket_prefix_and_options() {
        let place =
            s3_place("s3://team/photos/a%20b?endpoint=http://127.0.0.1:9000/&region=eu-1&style=virtual")
                .unwrap();
        assert_eq!(
            (place.bucket.as_str(), place.prefix.as_str()),
            ("team", "photos/a b/")
        );
        assert_eq!(place.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(
            (place.region.as_deref(), place.style),
            (Some("eu-1"), Some(Style::Virtual))
        );
        assert_eq!(place.label(), "s3://team/photos/a b");
        assert_eq!(s3_place("s3://team").unwrap().prefix, "");
        assert_eq!(s3_place("s3://team/").unwrap().label(), "s3://team");
    }

    #[test]
    fn sk5_control_characters_are_refused() {
        for url in [
            "s3://b/a\nb",
            "s3://b/a%0ab",
            "s3://b\r",
            "s3://b/?region=x%00",
            "s3://b/\u{85}",
            "s3://b/%C2%85",
        ] {
            let fault = s3_place(url).unwrap_err();
            assert!(fault.is(Kind::Invalid), "{url:?}");
            assert!(!fault.to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn sk1_credentials_in_a_url_are_refused_and_not_repeated() {
        for url in [
            "s3://AKIACANARY:CANARY@b/x",
            "s3://b/x?secret_access_key=CANARY",
            "s3://b/x?Access-Key=CANARY&region=CANARY",
        ] {
            let fault = s3_place(url).unwrap_err();
            let said = format!("{fault} {fault:?} {:?}", fault.hint);
            assert!(!said.contains("CANARY"), "{said}");
        }
        assert_eq!(masked("s3://user:CANARY@b/p?token=CANARY"), "s3://***@b/p");
    }

    #[test]
    fn odd_places_are_refused() {
        for url in [
            "s3://",
            "s3:///x",
            "s3://b c/x",
            "http://b/x",
            "s3://b/100%",
            "s3://b?endpoint=ftp://x",
            "s3://b?what=1",
        ] {
            assert!(s3_place(url).is_err(), "{url:?}");
        }
        assert!(s3_place("s3://b?endpoint=http://u:p@h/").is_err());
        assert!(s3_place("s3://b?endpoint=http://h/path").is_err());
    }
}
