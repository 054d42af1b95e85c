//! Blocks of rows on their way into the target.

use bytes::Bytes;
use futures_util::SinkExt;
use regraft_pg::Session;
use regraft_pg::copy::Writer;
use tokio_postgres::CopyInSink;

use crate::error::Result;

/// Blocks of at least this size go to the server: smaller ones cost several times as much.
const BLOCK: usize = 128 << 10;

/// A COPY into the target that is opened when the first block is full.
pub(crate) struct Sink<'a> {
    /// `None` throws the rows away.
    target: Option<&'a Session>,
    statement: String,
    open: Option<std::pin::Pin<Box<CopyInSink<Bytes>>>>,
    block: Writer,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(target: &'a Session, statement: String) -> Self {
        Self {
            target: Some(target),
            statement,
            open: None,
            block: Writer::new(),
        }
    }

    /// A sink for rows that are only looked at.
    pub(crate) fn nowhere() -> Self {
        Self {
            target: None,
            statement: String::new(),
            open: None,
            block: Writer::new(),
        }
    }

    pub(crate) fn block(&mut self) -> &mut Writer {
        &mut self.block
    }

    pub(crate) async fn send_if_full(&mut self) -> Result<()> {
        if self.block.len() >= BLOCK {
            self.send().await
        } else {
            Ok(())
        }
    }

    async fn send(&mut self) -> Result<()> {
        let block = self.block.take();
        let Some(target) = self.target else {
            return Ok(());
        };
        let sink = match &mut self.open {
            Some(sink) => sink,
            None => self
                .open
                .insert(Box::pin(target.copy_in(&self.statement).await?)),
        };
        if let Err(error) = sink.send(block).await {
            // The channel to the connection is closed as soon as the server has refused
            // something; what it said comes out of finishing.
            let said = sink.as_mut().finish().await;
            return Err(said.err().unwrap_or(error).into());
        }
        Ok(())
    }

    /// Sends what is left and ends the COPY; how many rows the server took.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        if self.open.is_none() && self.block.len() <= 19 {
            return Ok(0);
        }
        self.block.end();
        self.send().await?;
        match &mut self.open {
            Some(sink) => Ok(sink.as_mut().finish().await?),
            None => Ok(0),
        }
    }
}
