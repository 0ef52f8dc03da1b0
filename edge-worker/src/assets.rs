//! Whole files in memory, and how they answer a request.

use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use split_core::Digest;
use warp::{
    Reply,
    http::{HeaderMap, StatusCode, header},
    reply::Response,
};

/// A file that never changes: its URL names its content.
pub(crate) const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A file that is asked about every time; the ETag answers.
pub(crate) const REVALIDATE: &str = "no-cache";

/// Below this many bytes, compression saves no packet.
const MIN_COMPRESSED_BYTES: usize = 1024;

/// A file, ready to be sent.
#[derive(Clone)]
pub(crate) struct Asset {
    content_type: String,
    cache: &'static str,
    plain: Body,
    brotli: Option<Body>,
}

#[derive(Clone)]
struct Body {
    bytes: Bytes,
    etag: String,
}

impl Asset {
    /// A file that is sent as it is.
    pub(crate) fn new(bytes: Bytes, content_type: impl Into<String>, cache: &'static str) -> Self {
        let etag = format!("\"{}\"", Digest::of(&bytes));
        Self {
            content_type: content_type.into(),
            cache,
            plain: Body { bytes, etag },
            brotli: None,
        }
    }

    /// The same file, compressed once and for all where that helps.
    ///
    /// Only brotli: browsers that have WebAssembly SIMD and a camera have it in the secure contexts where they work at all.
    pub(crate) fn compressed(self) -> Self {
        let plain = &self.plain.bytes;
        if plain.len() < MIN_COMPRESSED_BYTES {
            return self;
        }
        let compressed = brotli(plain).ok().filter(|it| it.len() < plain.len() / 10 * 9);
        match compressed {
            Some(bytes) => self.with_brotli(bytes.into()),
            None => self,
        }
    }

    /// The same file, with its compressed form that was made before.
    pub(crate) fn with_brotli(mut self, compressed: Bytes) -> Self {
        let etag = format!("{}-br\"", self.plain.etag.trim_end_matches('"'));
        self.brotli = Some(Body {
            bytes: compressed,
            etag,
        });
        self
    }

    /// Answers a `GET` or `HEAD` with these headers.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response {
        let brotli = self.brotli.as_ref().filter(|_| accepts_brotli(request));
        let body = brotli.unwrap_or(&self.plain);
        let builder = warp::http::Response::builder()
            .header(header::ETAG, &body.etag)
            .header(header::CACHE_CONTROL, self.cache)
            .header(header::VARY, "accept-encoding");
        let response = if is_cached(request, &body.etag) {
            builder.status(StatusCode::NOT_MODIFIED).body(Bytes::new())
        } else {
            let builder = builder.header(header::CONTENT_TYPE, &self.content_type);
            match brotli {
                Some(_) => builder.header(header::CONTENT_ENCODING, "br"),
                None => builder,
            }
            .body(body.bytes.clone())
        };
        match response {
            Ok(response) => response.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

fn brotli(mut bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // 9 of 11: the last two levels take ten times as long for a few percent.
    let parameters = BrotliEncoderParams {
        quality: 9,
        ..BrotliEncoderParams::default()
    };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut bytes, &mut compressed, &parameters)?;
    Ok(compressed)
}

fn accepts_brotli(request: &HeaderMap) -> bool {
    list(request, header::ACCEPT_ENCODING).any(|it| {
        let mut parts = it.split(';').map(str::trim);
        parts.next() == Some("br") && !parts.any(|it| matches!(it, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn is_cached(request: &HeaderMap, etag: &str) -> bool {
    list(request, header::IF_NONE_MATCH).any(|it| it == "*" || it.trim_start_matches("W/") == etag)
}

/// The comma-separated parts of all headers of one name.
fn list(request: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = request.get_all(name).into_iter();
    values
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Asset {
        Asset::new(Bytes::from("word ".repeat(1000)), "text/plain", REVALIDATE).compressed()
    }

    fn request(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn compresses_only_for_those_who_accept_it() {
        for (accepted, encoded) in [
            ("gzip, br", true),
            ("br;q=0.5", true),
            ("br;q=0", false),
            ("gzip", false),
            ("", false),
        ] {
            let response = text().respond(&request(header::ACCEPT_ENCODING, accepted));
            assert_eq!(
                response.headers().contains_key(header::CONTENT_ENCODING),
                encoded,
                "{accepted}"
            );
            assert_eq!(response.headers()[header::VARY], "accept-encoding");
        }
    }

    #[test]
    fn leaves_what_does_not_shrink() {
        let noise: Vec<u8> = (0..100_u8).flat_map(|it| *Digest::of(&[it]).as_bytes()).collect();
        let asset = Asset::new(noise.into(), "application/octet-stream", IMMUTABLE).compressed();
        assert!(asset.brotli.is_none());
    }

    #[test]
    fn answers_what_is_cached_without_a_body() {
        let etag = text().plain.etag;
        for (known, status) in [
            (etag.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"other\", W/{etag}"), StatusCode::NOT_MODIFIED),
            ("\"other\"".into(), StatusCode::OK),
        ] {
            let response = text().respond(&request(header::IF_NONE_MATCH, &known));
            assert_eq!(response.status(), status, "{known}");
        }
    }

    #[test]
    fn the_two_encodings_have_etags_of_their_own() {
        let asset = text();
        assert_ne!(asset.plain.etag, asset.brotli.unwrap().etag);
    }
}
