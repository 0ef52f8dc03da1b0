//! Everything that can fail between a frame and its label, with a code that pages can rely on.

use split_core::{
    Digest, PrepareError,
    codec::{EncodeError, SpecError},
    manifest::{FrameSizeError, ManifestError},
    session::{SendError, SessionError},
    wire::ErrorCode,
};
use split_runtime::{LoadError, RunError};

/// Why the client could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The manifest was refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The codec of an operating point cannot be built.
    #[error("the codec cannot be built: {0}")]
    Codec(#[from] SpecError),
    /// The manifest has no such operating point.
    #[error("there is no operating point {got}, the manifest has {points}")]
    NoSuchPoint {
        /// The number asked for.
        got: usize,
        /// Operating points in the manifest.
        points: usize,
    },
    /// A downloaded segment or codec is not what the manifest names.
    #[error("a part of the network arrived damaged: SHA-256 {got}, the manifest names {expected}")]
    DamagedFile {
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of the bytes that arrived.
        got: Digest,
    },
    /// An operating point was asked to run before its files were there.
    #[error("operating point {point} is not ready: {missing} of its files are missing")]
    NotReady {
        /// The operating point.
        point: usize,
        /// Files still to be downloaded or made ready.
        missing: usize,
    },
    /// The segments do not make a network.
    #[error("the head cannot be loaded: {0}")]
    Load(#[from] LoadError),
    /// The head failed.
    #[error("the head cannot run: {0}")]
    Run(#[from] RunError),
    /// The features cannot be encoded.
    #[error("the features cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The frame is not of the network's size.
    #[error(transparent)]
    FrameSize(#[from] FrameSizeError),
    /// The picture cannot be brought to the network's size.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Pixels at a point that takes an image file, or the other way round.
    #[error("operating point {point} does not take {got}")]
    WrongInput {
        /// The operating point.
        point: usize,
        /// What was given.
        got: &'static str,
    },
    /// The goal does not let frames leave the device.
    #[error("by the goal, no frame is to leave this device")]
    KeptHere,
    /// There is no connection.
    #[error("there is no connection to the edge worker")]
    Offline,
    /// The request could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The connection broke the protocol or was refused.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl ClientError {
    /// A name for the kind of error that does not change between releases.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Manifest(ManifestError::Format { .. }) => "manifest-version",
            Self::Manifest(_) => "manifest-invalid",
            Self::NoSuchPoint { .. } => "no-such-point",
            Self::DamagedFile { .. } => "segment-damaged",
            Self::NotReady { .. } => "not-ready",
            Self::Load(_) | Self::Codec(_) => "segment-invalid",
            Self::Run(_) | Self::Encode(_) => "head-failed",
            Self::FrameSize(_) | Self::Prepare(_) => "frame-size",
            Self::WrongInput { .. } => "wrong-input",
            Self::KeptHere => "no-usable-point",
            Self::Offline | Self::Send(SendError::NotReady) => "offline",
            Self::Send(SendError::NoCredit { .. }) => "no-credit",
            Self::Send(_) => "message-too-long",
            Self::Session(error) => session_code(error),
        }
    }
}

fn session_code(error: &SessionError) -> &'static str {
    match error {
        SessionError::Version { .. } => "protocol-version",
        SessionError::Manifest { .. } => "manifest-mismatch",
        SessionError::Refused { code, .. } => error_code(*code),
        _ => "protocol",
    }
}

/// The page's name for an error of the edge worker.
pub(crate) fn error_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::VersionMismatch => "protocol-version",
        ErrorCode::ManifestMismatch => "manifest-mismatch",
        ErrorCode::Unauthorized => "unauthorized",
        ErrorCode::ShuttingDown => "edge-shutting-down",
        ErrorCode::NoSuchPoint => "no-such-point",
        ErrorCode::LimitExceeded => "limit-exceeded",
        ErrorCode::BadMessage | ErrorCode::BadPayload => "protocol",
        _ => "edge-failed",
    }
}

/// Whether connecting again may help: everywhere but where a token is wrong, which stays wrong. While edge workers are updated one by one, the
/// next may be one that fits.
pub(crate) fn may_retry(code: &str) -> bool {
    code != "unauthorized"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_token_is_final() {
        let refused = |code| {
            let text = String::new();
            ClientError::from(SessionError::Refused { code, text }).code()
        };
        assert!(may_retry(refused(ErrorCode::ManifestMismatch)));
        assert!(!may_retry(refused(ErrorCode::Unauthorized)));
        assert!(may_retry(refused(ErrorCode::LimitExceeded)));
        assert!(may_retry(refused(ErrorCode::ShuttingDown)));
        assert!(may_retry(ClientError::Offline.code()));
    }
}
