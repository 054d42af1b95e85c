//! Keys that follow from the legacy id and the project's secret alone.
//!
//! - `uuid_v5` (RFC 9562, 5.5): SHA-1 of a namespace and the legacy id in its text form. The
//!   namespace is the first 16 bytes of HMAC-SHA-256(secret, "regraft namespace " + entity), so it
//!   can't be guessed, and SQL can recompute the key with `uuid_generate_v5(namespace, id::text)`.
//! - `uuid_v7` (RFC 9562, 5.7): 48 bits of milliseconds from the row's own time, and 74 bits of
//!   HMAC-SHA-256(secret, "regraft key " + entity + NUL + legacy id) where the standard asks for
//!   random ones. Time-ordered, recomputable from the source, not guessable.

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::context::KeySecret;

/// Microseconds from the Unix epoch to 2000-01-01, where PostgreSQL's timestamps begin.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// A legacy id: a number, or the text form of anything else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum LegacyId {
    /// smallint, integer or bigint.
    Number(i64),
    /// text, varchar or uuid.
    Text(String),
}

impl LegacyId {
    /// From a field of a binary COPY: a bigint where ids are numbers, else text. `None` for NULL and
    /// for bytes that are laid out otherwise.
    pub(crate) fn from_field(numeric: bool, field: Option<&[u8]>) -> Option<Self> {
        let field = field?;
        if numeric {
            let bytes = field.try_into().ok()?;
            return Some(Self::Number(i64::from_be_bytes(bytes)));
        }
        let text = std::str::from_utf8(field).ok()?;
        Some(Self::Text(text.to_owned()))
    }

    /// From a column of a row of a query: a bigint where ids are numbers, else text.
    pub(crate) fn from_row(numeric: bool, row: &Row, at: usize) -> Self {
        if numeric {
            Self::Number(row.get(at))
        } else {
            Self::Text(row.get(at))
        }
    }

    /// From the text form that the ledger keeps; `None` where that should be a number and isn't.
    pub(crate) fn parse(numeric: bool, text: String) -> Option<Self> {
        if numeric {
            text.parse().ok().map(Self::Number)
        } else {
            Some(Self::Text(text))
        }
    }
}

impl std::fmt::Display for LegacyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Derives the keys of one entity.
#[derive(Clone)]
pub(crate) struct Deriver {
    namespace: [u8; 16],
    keyed: Hmac<Sha256>,
}

impl Deriver {
    pub(crate) fn new(secret: &KeySecret, entity: &str) -> Self {
        let mut namespace_mac = mac(secret);
        namespace_mac.update(b"regraft namespace ");
        namespace_mac.update(entity.as_bytes());
        let mut namespace = [0; 16];
        namespace.copy_from_slice(&namespace_mac.finalize().into_bytes()[..16]);
        let mut keyed = mac(secret);
        keyed.update(b"regraft key ");
        keyed.update(entity.as_bytes());
        keyed.update(&[0]);
        Self { namespace, keyed }
    }

    /// The `uuid_v5` key of a legacy id in its text form.
    pub(crate) fn v5(&self, legacy_id: &[u8]) -> Uuid {
        let mut hash = Sha1::new();
        hash.update(self.namespace);
        hash.update(legacy_id);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        uuid::Builder::from_sha1_bytes(bytes).into_uuid()
    }

    /// The `uuid_v7` key of a legacy id in its text form. `time` is in microseconds since
    /// 2000-01-01 UTC; times before 1970 and after the year 10889 (infinity too) are moved to the
    /// ends of what a version 7 UUID can hold, which costs order and nothing else.
    pub(crate) fn v7(&self, legacy_id: &[u8], time: i64) -> Uuid {
        let milliseconds = time
            .saturating_add(POSTGRES_EPOCH)
            .div_euclid(1000)
            .clamp(0, (1 << 48) - 1);
        let mut keyed = self.keyed.clone();
        keyed.update(legacy_id);
        let tag = keyed.finalize().into_bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&tag[..10]);
        uuid::Builder::from_unix_timestamp_millis(milliseconds.unsigned_abs(), &random).into_uuid()
    }

    /// A digest that tells whether two secrets are the same without telling either.
    pub(crate) fn secret_check(secret: &KeySecret) -> String {
        let mut check = mac(secret);
        check.update(b"regraft secret check");
        hex::encode(&check.finalize().into_bytes()[..8])
    }
}

fn mac(secret: &KeySecret) -> Hmac<Sha256> {
    // HMAC takes keys of any length; hashing first gives one of exactly the block's half, so that
    // no length can be refused.
    Hmac::<Sha256>::new(&{
        let digest = Sha256::digest(secret.bytes());
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block[..32].copy_from_slice(&digest);
        block
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deriver() -> Deriver {
        Deriver::new(&KeySecret::new("a secret of the tests").unwrap(), "orders")
    }

    #[test]
    fn keys_are_valid_stable_and_differ_by_id_and_entity() {
        let keys = deriver();
        let other = Deriver::new(&KeySecret::new("a secret of the tests").unwrap(), "jaws");
        assert_eq!(keys.v5(b"1").get_version_num(), 5);
        assert_eq!(keys.v5(b"1"), deriver().v5(b"1"));
        assert_ne!(keys.v5(b"1"), keys.v5(b"2"));
        assert_ne!(keys.v5(b"1"), other.v5(b"1"));
        assert_eq!(keys.v7(b"1", 0).get_version_num(), 7);
        assert_eq!(keys.v7(b"1", 0), deriver().v7(b"1", 0));
        assert_ne!(keys.v7(b"1", 0), keys.v7(b"2", 0));
    }

    #[test]
    fn v7_keys_order_by_time_and_take_any_time() {
        let keys = deriver();
        assert!(keys.v7(b"9", 1_000_000) < keys.v7(b"1", 2_000_000));
        for time in [i64::MIN, i64::MAX, -POSTGRES_EPOCH - 1, 0] {
            assert_eq!(keys.v7(b"1", time).get_version_num(), 7);
        }
        // 2000-01-01T00:00:00Z is 946684800000 ms after 1970.
        assert_eq!(keys.v7(b"1", 0).as_u128() >> 80, 946_684_800_000);
    }

    #[test]
    fn v5_is_what_the_standard_says() {
        // The namespace and key are recomputed here from the definition.
        let keys = deriver();
        assert_eq!(
            keys.v5(b"42"),
            Uuid::new_v5(&Uuid::from_bytes(keys.namespace), b"42")
        );
    }
}
