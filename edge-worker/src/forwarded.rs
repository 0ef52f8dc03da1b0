//! The client's address, as trusted proxies state it.

use std::net::IpAddr;

use warp::http::HeaderMap;

/// Proxies in front of the server, and where they state the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// How many proxies a request passes. Each adds the address that it saw, or replaces them all; 0 ignores the header.
    pub count: u8,
    /// The header that they write. What clients write into the other one is ignored.
    pub header: ForwardedHeader,
}

/// A header in which proxies state the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded`: RFC 7239.
    Forwarded,
}

/// Why a client's address is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("the request states fewer addresses than there are trusted proxies")]
    Missing,
    #[error("'{0}' is no address")]
    Unreadable(String),
}

impl TrustedProxies {
    /// The address of the client whose request came over a connection from `peer`.
    pub(crate) fn client(&self, headers: &HeaderMap, peer: IpAddr) -> Result<IpAddr, Unknown> {
        if self.count == 0 {
            return Ok(peer);
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        // The proxy nearest to this server wrote the last element. The client may have made up what stands before those of the
        // trusted proxies, so that text must not change how theirs are read: hence from the right.
        let mut from_right = headers.get_all(name).into_iter().rev().flat_map(|it| {
            let text = String::from_utf8_lossy(it.as_bytes());
            match self.header {
                // It knows no quotes across commas.
                ForwardedHeader::XForwardedFor => listed(text.rsplit(',')),
                ForwardedHeader::Forwarded => listed(split_from_right(&text, ',').into_iter()),
            }
        });
        let element = &from_right.nth(usize::from(self.count) - 1).ok_or(Unknown::Missing)?;
        let node = match self.header {
            ForwardedHeader::XForwardedFor => Some(unquoted(element)),
            ForwardedHeader::Forwarded => forwarded_for(element),
        };
        let address = node.and_then(|it| address(&it));
        address.ok_or_else(|| Unknown::Unreadable(element.clone()))
    }
}

/// The value of `for` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<String> {
    let mut pairs = split_from_right(element, ';');
    pairs.reverse();
    pairs.into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| unquoted(value.trim()))
    })
}

/// An address with or without port, brackets and zone: proxies write all of these.
fn address(node: &str) -> Option<IpAddr> {
    let without_port = match node.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let has_no_port = port.is_empty() || is_port(port.strip_prefix(':')?);
            has_no_port.then_some(address)?
        }
        // One colon separates a port, several are part of an address.
        None => match node.split_once(':') {
            Some((address, port)) if !port.contains(':') => is_port(port).then_some(address)?,
            _ => node,
        },
    };
    let without_zone = without_port.split_once('%').map_or(without_port, |it| it.0);
    without_zone.parse().ok()
}

/// A number, or a name that hides one (RFC 7239, section 6.2).
fn is_port(text: &str) -> bool {
    let hidden = text.strip_prefix('_');
    match hidden {
        Some(name) => {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
        }
        None => text.parse::<u16>().is_ok(),
    }
}

/// Trimmed elements. Empty ones are left out, as lists in headers may have them.
fn listed<'a>(elements: impl Iterator<Item = &'a str>) -> Vec<String> {
    let trimmed = elements.map(|it| it.trim().to_owned());
    trimmed.filter(|it| !it.is_empty()).collect()
}

/// Splits at an ASCII separator outside quoted strings, the last part first. If a quote has no partner, what stands left of it is one part.
fn split_from_right(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), text.len(), false);
    for (at, it) in text.char_indices().rev() {
        if it == '"' {
            let backslashes = text[..at].bytes().rev().take_while(|it| *it == b'\\').count();
            let escaped = quoted && backslashes % 2 == 1;
            quoted ^= !escaped;
        } else if it == separator && !quoted {
            parts.push(&text[at + 1..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts
}

/// The text in a quoted string, or the text itself.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|it| it.strip_suffix('"')) else {
        return text.into();
    };
    let mut characters = inner.chars();
    let mut text = String::new();
    while let Some(it) = characters.next() {
        text.extend(if it == '\\' { characters.next() } else { Some(it) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn client(count: u8, header: ForwardedHeader, values: &[&str]) -> Result<IpAddr, Unknown> {
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        TrustedProxies { count, header }.client(&headers, PEER)
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        for (text, expected) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:4711", "10.1.2.3"),
            ("\"10.1.2.3:4711\"", "10.1.2.3"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:10.1.2.3", "::ffff:10.1.2.3"),
        ] {
            let expected = Ok(expected.parse().unwrap());
            assert_eq!(client(1, ForwardedHeader::XForwardedFor, &[text]), expected, "{text}");
        }
        for text in [
            "unknown",
            "_hidden",
            "10.1.2",
            "10.1.2.3:",
            "10.1.2.3:http",
            "[2001:db8::1",
            "[::1]x",
            "1.2.3.4 5",
        ] {
            let got = client(1, ForwardedHeader::XForwardedFor, &[text]);
            assert_eq!(got, Err(Unknown::Unreadable(text.into())), "{text}");
        }
    }

    #[test]
    fn the_header_of_rfc_7239_is_read() {
        for (text, expected) in [
            ("for=192.0.2.43", "192.0.2.43"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("proto=https; FOR = \"192.0.2.60:_port\"", "192.0.2.60"),
            ("host=\"a,b;for=1.1.1.1\";for=192.0.2.61", "192.0.2.61"),
            ("for=1.1.1.1, for=192.0.2.62,", "192.0.2.62"),
        ] {
            let expected = Ok(expected.parse().unwrap());
            assert_eq!(client(1, ForwardedHeader::Forwarded, &[text]), expected, "{text}");
        }
        for text in ["for=unknown", "for=\"_gazonk\"", "by=203.0.113.43", "192.0.2.43"] {
            let got = client(1, ForwardedHeader::Forwarded, &[text]);
            assert_eq!(got, Err(Unknown::Unreadable(text.into())), "{text}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        let forged = ["1.1.1.1", "2.2.2.2, 3.3.3.3"];
        let header = ForwardedHeader::XForwardedFor;
        for (count, expected) in [
            (0, [127, 0, 0, 1]),
            (1, [3, 3, 3, 3]),
            (2, [2, 2, 2, 2]),
            (3, [1, 1, 1, 1]),
        ] {
            assert_eq!(client(count, header, &forged), Ok(expected.into()), "{count}");
        }
        assert_eq!(client(4, header, &forged), Err(Unknown::Missing));
        assert_eq!(client(1, header, &[]), Err(Unknown::Missing));
        let mut other = HeaderMap::new();
        other.append("forwarded", "for=9.9.9.9".parse().unwrap());
        let proxies = TrustedProxies { count: 1, header };
        assert_eq!(
            proxies.client(&other, PEER),
            Err(Unknown::Missing),
            "the other header is no substitute"
        );
    }

    #[test]
    fn a_quote_of_the_client_hides_no_address_of_a_proxy() {
        let forged = [
            "\"",
            "9.9.9.9, \"",
            "\"9.9.9.9, 8.8.8.8",
            "9.9.9.9, \"\\",
            "9.9.9.9, \\\"",
            "\", \", \"",
            "for=9.9.9.9, for=\"x",
            "for=9.9.9.9;host=\"x\\",
            "for=9.9.9.9, for=\"x\\\"",
            "for=\"9.9.9.9\", \"a\"b\"",
        ];
        for (header, appended) in [
            (
                ForwardedHeader::XForwardedFor,
                ["10.0.0.1", "10.0.0.2:80", "\"[::1]:80\""],
            ),
            (
                ForwardedHeader::Forwarded,
                [
                    "for=10.0.0.1",
                    "by=\"[::2]\";for=\"10.0.0.2:80\";host=\"a\\\",\\\\\"",
                    "for=\"[::1]:80\"",
                ],
            ),
        ] {
            for start in forged {
                // As one line, and with a line for each proxy.
                let line = format!("{start}, {}", appended.join(", "));
                let lines = [start, appended[0], appended[1], appended[2]];
                for values in [&[line.as_str()][..], &lines[..]] {
                    for (count, expected) in [(1, "::1"), (2, "10.0.0.2"), (3, "10.0.0.1")] {
                        let expected = Ok(expected.parse().unwrap());
                        assert_eq!(client(count, header, values), expected, "{values:?}");
                    }
                }
            }
        }
        for (header, text) in [
            (ForwardedHeader::XForwardedFor, "\"9.9.9.9, 10.0.0.1"),
            (ForwardedHeader::Forwarded, "for=9.9.9.9, for=\"x, for=10.0.0.1"),
        ] {
            let got = client(2, header, &[text]);
            assert!(matches!(got, Err(Unknown::Unreadable(_))), "{text}: {got:?}");
        }
    }
}
