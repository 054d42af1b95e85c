//! Constants of the project in the bytes the target wants, encoded by the target itself.

use futures_util::{StreamExt, pin_mut};
use regraft_pg::Session;
use regraft_pg::copy::{Reader, Tuple};
use regraft_pg::quote;
use tokio_postgres::types::Type;

use crate::error::Result;

/// The binary form of `text` read as `of`, as the target's own input function reads it.
///
/// # Errors
/// What the server says of a text that is no value of the type.
pub(crate) async fn encode(target: &Session, text: &str, of: &Type) -> Result<Vec<u8>> {
    let sql = format!(
        "copy (select {}::{}) to stdout (format binary)",
        quote::literal(text),
        quote::qualified(of.schema(), of.name())
    );
    let stream = target.copy_out(&sql).await?;
    pin_mut!(stream);
    let (mut reader, mut tuple) = (Reader::default(), Tuple::default());
    let mut encoded = Vec::new();
    while let Some(chunk) = stream.next().await {
        let payload = reader.payload(&chunk?)?;
        if !payload.is_empty()
            && tuple.parse(&payload, 1)?.is_some()
            && let Some(bytes) = tuple.field(&payload, 0)
        {
            encoded = bytes.to_vec();
        }
    }
    Ok(encoded)
}
