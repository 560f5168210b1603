//! Connections that can all be broken off at once, whatever they wait for: those of HTTP, whose tasks belong to axum.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A listener whose connections break off when its token is cancelled.
pub(super) struct Breakable {
    pub(super) listener: TcpListener,
    pub(super) broken: CancellationToken,
}

impl Listener for Breakable {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, broken: Box::pin(self.broken.clone().cancelled_owned()) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection of a [`Breakable`] listener.
pub(super) struct Connection {
    stream: TcpStream,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// Fails from the moment on in which all are broken off, and wakes whoever waits then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.broken.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_reads_or_writes_is_woken_and_broken_off_and_so_is_whoever_comes_later() {
        let broken = CancellationToken::new();
        let mut listener = Breakable { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), broken: broken.clone() };
        let address = Listener::local_addr(&listener).unwrap();
        // They send nothing and take nothing.
        let clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (mut reads, mut writes) = (listener.accept().await.0, listener.accept().await.0);
        let reading = tokio::spawn(async move { reads.read_u8().await.unwrap_err().kind() });
        let writing = tokio::spawn(async move {
            loop {
                if let Err(error) = writes.write_all(&[0; 1 << 16]).await {
                    return error.kind();
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!reading.is_finished() && !writing.is_finished(), "both wait for their clients");
        broken.cancel();
        for ended in [reading, writing] {
            assert_eq!(timeout(Duration::from_secs(5), ended).await.unwrap().unwrap(), io::ErrorKind::ConnectionAborted);
        }
        let late = TcpStream::connect(address).await.unwrap();
        let mut later = listener.accept().await.0;
        assert_eq!(later.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop((clients, late));
    }
}
