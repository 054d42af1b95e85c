//! Constants of the project in the bytes the target wants, encoded by the target itself.

use regraft_pg::Session;
use regraft_pg::copy::Rows;
use regraft_pg::quote;
use tokio_postgres::types::{Kind, Type};

use crate::error::Result;

/// The binary form of `text` read as `of`, as the target's own input function reads it.
///
/// # Errors
/// What the server says of a text that is no value of the type.
pub(crate) async fn encode(target: &Session, text: &str, of: &Type) -> Result<Vec<u8>> {
    // Their binary form is the text itself, and a project has hundreds of them: far away, asking
    // for each would take longer than the plan. (A label must have been checked before.)
    if matches!(of.kind(), Kind::Enum(_)) || matches!(*of, Type::TEXT | Type::VARCHAR) {
        return Ok(text.as_bytes().to_vec());
    }
    let query = format!(
        "select {}::{}",
        quote::literal(text),
        quote::qualified(of.schema(), of.name())
    );
    let mut rows = Rows::of(target, &query, 1).await?;
    let row = rows.next().await?;
    let bytes = row.and_then(|row| row.get(0).map(<[u8]>::to_vec));
    Ok(bytes.unwrap_or_default())
}
