//! Which pages may connect, and which names this server answers to.
//!
//! Origins are compared as scheme, host and port after parsing, so that upper case, default ports and a trailing slash make no difference.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::Deserialize;
use warp::http::{HeaderMap, Uri, header, uri::Authority};

/// Scheme, host and port of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

/// An origin whose pages may connect, as an operator names it: `https://example.org`, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AllowedOrigin {
    /// Every page may connect.
    Any,
    /// Pages of one scheme, host and port.
    Exactly(Origin),
}

/// A name of this server, without scheme and port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServerName(Host);

/// Why a name cannot be that of an origin or of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' {reason}")]
pub struct NameError {
    given: String,
    reason: &'static str,
}

const NO_ORIGIN: &str =
    "is not an origin, so no page could ever match it: write it like https://example.org, or '*' for any page";
const SANDBOXED: &str =
    "is what every sandboxed page sends, so it tells no page from another: allow the page's own origin";
const MORE: &str = "has more than a scheme, a host and a port, and browsers send nothing more: leave the rest out";
const WILDCARD: &str = "has a wildcard, which only stands alone: name each origin, or allow any with '*'";
const NO_NAME: &str = "is not the name of a host: write it like edge.example.org, without scheme, port and path";
const NO_ASCII: &str =
    "is not in ASCII, as browsers send names: write it in Punycode, like xn--bcher-kva.example for b\u{fc}cher.example";

impl FromStr for AllowedOrigin {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |reason| {
            let given = text.into();
            Err(NameError { given, reason })
        };
        match Origin::parse(text) {
            _ if text == "*" => Ok(Self::Any),
            _ if text == "null" => refused(SANDBOXED),
            _ if text.contains('*') => refused(WILDCARD),
            _ if !text.is_ascii() => refused(NO_ASCII),
            Ok(origin) => Ok(Self::Exactly(origin)),
            Err(reason) => refused(reason),
        }
    }
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Without brackets, too: there is no port that they would have to keep apart.
        let host = match text.parse() {
            Ok(address) => Some(Host::Address(address)),
            Err(_) => Host::parse(text),
        };
        host.map(Self).ok_or_else(|| NameError {
            given: text.into(),
            reason: if text.is_ascii() { NO_NAME } else { NO_ASCII },
        })
    }
}

impl TryFrom<String> for AllowedOrigin {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for ServerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Host::Name(name) => name.fmt(f),
            Host::Address(address) => address.fmt(f),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let uri = Uri::from_str(text).map_err(|_| NO_ORIGIN)?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(NO_ORIGIN),
        };
        let authority = uri.authority().ok_or(NO_ORIGIN)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') || has_user(authority) {
            return Err(MORE);
        }
        Self::at(scheme, authority).ok_or(NO_ORIGIN)
    }

    fn at(scheme: Scheme, authority: &Authority) -> Option<Self> {
        let default = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let after_host = authority.as_str().strip_prefix(authority.host())?;
        let port = match after_host.strip_prefix(':') {
            // Nothing can be reached at port 0.
            Some(port) if port.bytes().all(|it| it.is_ascii_digit()) => port.parse().ok().filter(|it| *it > 0)?,
            Some(_) => return None,
            None => default,
        };
        let host = Host::parse(authority.host())?;
        Some(Self { scheme, host, port })
    }
}

impl Host {
    /// None for what a browser never takes for a host. Addresses of IPv6 stand in brackets.
    fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().ok().map(|it| Self::Address(it.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        // A dot at the end stands for the root, and makes another name.
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label) && !ends_in_number(name);
        is_name.then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

/// Of a name in DNS, and of each of its labels: RFC 1035, section 2.3.4.
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

fn is_label(text: &str) -> bool {
    let allowed = |it: u8| it.is_ascii_alphanumeric() || b"-_".contains(&it);
    (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether browsers take it for an address (WHATWG URL, "ends in a number"), which they then send in its usual form or refuse.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hexadecimal = hexadecimal.is_some_and(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
    is_hexadecimal || last.bytes().all(|it| it.is_ascii_digit())
}

/// Whether a request for this server may have come by another name than the listed ones; none listed allows all.
///
/// A page whose name was pointed at this server after it was loaded (DNS rebinding) sends that name as its `Host`. Addresses and
/// `localhost` cannot be pointed elsewhere, so they are always allowed.
pub(crate) fn is_named(headers: &HeaderMap, names: &[ServerName]) -> bool {
    if names.is_empty() {
        return true;
    }
    match server(headers).and_then(|it| Host::parse(it.host())) {
        Some(Host::Address(_)) => true,
        Some(Host::Name(name)) if name == "localhost" => true,
        Some(name) => names.iter().any(|it| it.0 == name),
        None => false,
    }
}

/// Whether the page came from this server, or it is no page that asks: programs send no `Origin`.
pub(crate) fn is_own(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    // TLS ends in front of this server, so the scheme is the page's.
    let own = |it: &Origin| Origin::at(it.scheme, &server(headers)?);
    page(headers).is_some_and(|it| own(&it).as_ref() == Some(&it))
}

/// Whether the operator allows pages of this origin.
pub(crate) fn is_listed(headers: &HeaderMap, allowed: &[AllowedOrigin]) -> bool {
    let page = page(headers);
    allowed.iter().any(|it| match it {
        AllowedOrigin::Any => headers.contains_key(header::ORIGIN),
        AllowedOrigin::Exactly(origin) => page.as_ref() == Some(origin),
    })
}

/// The origin of the page that asks.
fn page(headers: &HeaderMap) -> Option<Origin> {
    Origin::parse(headers.get(header::ORIGIN)?.to_str().ok()?).ok()
}

/// The server that the request is for.
fn server(headers: &HeaderMap) -> Option<Authority> {
    let authority = Authority::from_str(headers.get(header::HOST)?.to_str().ok()?).ok();
    authority.filter(|it| !has_user(it))
}

fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        let values = values
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        values.collect()
    }

    #[test]
    fn origins_are_compared_as_scheme_host_and_port() {
        let allowed: AllowedOrigin = "https://page.example".parse().unwrap();
        for same in [
            "https://page.example/",
            "https://PAGE.example",
            "https://page.example:443",
        ] {
            assert_eq!(same.parse(), Ok(allowed.clone()), "{same}");
        }
        let allowed = [allowed];
        for (host, origin, expected) in [
            ("edge.example:8080", "http://edge.example:8080", true),
            ("edge.example", "https://edge.example", true),
            ("edge.example:443", "https://edge.example", true),
            ("edge.example", "https://edge.example:443", true),
            ("EDGE.example", "https://edge.example", true),
            ("edge.example:80", "http://edge.example", true),
            ("[::1]:8080", "http://[0:0::1]:8080", true),
            ("edge.example", "https://page.example", true),
            ("edge.example:8080", "http://edge.example", false),
            ("edge.example:80", "https://edge.example", false),
            ("edge.example:8080", "https://edge.example.evil.example:8080", false),
            ("edge.example", "http://page.example", false),
            ("edge.example", "https://page.example:8443", false),
            ("edge.example", "https://other.example", false),
            ("edge.example", "null", false),
            ("edge.example", "file://", false),
            ("edge.example", "data:", false),
            ("a@edge.example", "https://edge.example", false),
        ] {
            let headers = headers(&[("host", host), ("origin", origin)]);
            let admitted = is_own(&headers) || is_listed(&headers, &allowed);
            assert_eq!(admitted, expected, "{origin} at {host}");
        }
        assert!(is_own(&headers(&[("host", "edge.example")])), "a program");
        for any in ["https://any.example", "null"] {
            assert!(is_listed(&headers(&[("origin", any)]), &[AllowedOrigin::Any]), "{any}");
        }
    }

    #[test]
    fn origins_that_can_never_match_are_refused() {
        for (origin, says) in [
            ("", "write it like"),
            ("page.example", "write it like"),
            ("page.example:8080", "write it like"),
            ("localhost:8080", "write it like"),
            ("//page.example", "write it like"),
            ("https://", "write it like"),
            ("ftp://page.example", "write it like"),
            ("https://page.example/app", "leave the rest out"),
            ("https://page.example/?a", "leave the rest out"),
            ("https://user@page.example", "leave the rest out"),
            ("https://page.example:99999", "write it like"),
            ("https://.", "write it like"),
            ("https://..", "write it like"),
            ("https://.example", "write it like"),
            ("https://a..b", "write it like"),
            ("https://page.example..", "write it like"),
            ("https://page.example:0", "write it like"),
            ("https://page.example:", "write it like"),
            ("https://page.example:+443", "write it like"),
            ("https://1.2.3", "write it like"),
            ("https://1.2.3.4.5", "write it like"),
            ("https://256.1.1.1", "write it like"),
            ("https://01.2.3.4", "write it like"),
            ("https://127.0.0.1.", "write it like"),
            ("https://page.0x7f", "write it like"),
            ("https://2130706433", "write it like"),
            ("https://[127.0.0.1]", "write it like"),
            ("https://[::1%25eth0]", "write it like"),
            ("https://[::1", "write it like"),
            ("https://page%2eexample", "write it like"),
            (&format!("https://{}.example", "a".repeat(64)), "write it like"),
            (&format!("https://{}example", "a.".repeat(130)), "write it like"),
            ("https://b\u{fc}cher.example", "xn--"),
            ("https://*.page.example", "wildcard"),
            ("null", "sandboxed"),
        ] {
            let error = origin.parse::<AllowedOrigin>().unwrap_err().to_string();
            assert!(error.contains(says), "{origin}: {error}");
        }
    }

    #[test]
    fn origins_that_browsers_send_are_taken() {
        for origin in [
            "https://page.example",
            "https://page.example.",
            "http://localhost:3000",
            "http://a_b.page-1.example",
            "https://xn--bcher-kva.example",
            "https://3com.example",
            "https://page.0xg",
            "http://127.0.0.1:1",
            "http://[::1]:65535",
            "https://[::ffff:1.2.3.4]",
            &format!("https://{}.example", "a".repeat(63)),
        ] {
            let allowed = [origin.parse().unwrap()];
            assert!(is_listed(&headers(&[("origin", origin)]), &allowed), "{origin}");
        }
    }

    #[test]
    fn only_listed_names_and_addresses_name_the_server() {
        for address in ["127.0.0.1", "::1", "[::1]"] {
            address.parse::<ServerName>().unwrap();
        }
        let names: [ServerName; 1] = ["Edge.example".parse().unwrap()];
        for (host, expected) in [
            ("edge.example", true),
            ("EDGE.example:8443", true),
            ("localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("evil.example", false),
            ("edge.example.evil.example", false),
            ("edge.example/../evil", false),
            ("", false),
        ] {
            assert_eq!(is_named(&headers(&[("host", host)]), &names), expected, "{host}");
            assert!(is_named(&headers(&[("host", host)]), &[]), "{host}");
        }
        assert!(!is_named(&headers(&[]), &names));
        for wrong in [
            "",
            "https://edge.example",
            "edge.example:443",
            "edge.example/",
            "*.example",
            ".",
            "a..b",
            "1.2.3",
            "[127.0.0.1]",
            "b\u{fc}cher.example",
        ] {
            assert!(wrong.parse::<ServerName>().is_err(), "{wrong}");
        }
    }
}
