//! A client without a browser: the session that the browser runs too, over a WebSocket of tokio.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use split_core::{
    Digest,
    session::{Event, SendError, Session, SessionError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, ToSocketAddrs},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::CloseFrame},
};

/// A connection that the edge worker has welcomed.
pub struct Client<S = TcpStream> {
    /// The WebSocket, for those who want to break the rules.
    pub socket: WebSocketStream<S>,
    /// What was asked and not yet answered.
    pub session: Session,
}

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket could not be opened.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The WebSocket failed.
    #[error("the WebSocket failed: {0}")]
    Socket(#[from] Box<tungstenite::Error>),
    /// The edge worker broke the protocol, or refused.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The request cannot be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The edge worker closed the connection.
    #[error("the edge worker closed the connection: {0:?}")]
    Closed(Option<CloseFrame>),
    /// Neither binary nor of the WebSocket itself.
    #[error("the edge worker sent text")]
    Text,
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Socket(Box::new(error))
    }
}

impl Client {
    /// Connects without TLS.
    pub async fn connect(address: impl ToSocketAddrs, manifest: Digest) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, "localhost", manifest, None).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Opens the WebSocket over a stream and says `Hello`; `host` is the name for which the stream was opened.
    pub async fn over(stream: S, host: &str, manifest: Digest, token: Option<&str>) -> Result<Self, ClientError> {
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{host}/v1/infer"), stream).await?;
        let session = Session::new(manifest, Duration::ZERO);
        let hello = session.hello(token.map(Into::into));
        let mut client = Self { socket, session };
        client.socket.send(Message::Binary(hello.into())).await?;
        client.next().await?;
        Ok(client)
    }

    /// Asks for the tail of one frame. Returns the id under which the answer comes.
    pub async fn infer(&mut self, point: u16, payload: &[u8]) -> Result<u8, ClientError> {
        let id = self.session.infer(Duration::ZERO, point, payload, ())?;
        self.send(id).await?;
        Ok(id)
    }

    /// Sends a probe. Returns its id.
    pub async fn probe(&mut self, padding: usize) -> Result<u8, ClientError> {
        let id = self.session.probe(Duration::ZERO, padding)?;
        self.send(id).await?;
        Ok(id)
    }

    /// Waits for what the edge worker says next.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            match self.socket.next().await.transpose()? {
                Some(Message::Binary(bytes)) => return Ok(self.session.receive(Duration::ZERO, &bytes)?.0),
                Some(Message::Close(frame)) => return Err(ClientError::Closed(frame)),
                None => return Err(ClientError::Closed(None)),
                Some(Message::Text(_)) => return Err(ClientError::Text),
                Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            }
        }
    }

    /// Asks for the tail of one frame and waits for what comes next: the answer, if nothing else is in flight.
    pub async fn ask(&mut self, point: u16, payload: &[u8]) -> Result<Event, ClientError> {
        self.infer(point, payload).await?;
        self.next().await
    }

    async fn send(&mut self, id: u8) -> Result<(), ClientError> {
        let message = self.session.message(id).to_vec();
        Ok(self.socket.send(Message::Binary(message.into())).await?)
    }
}
