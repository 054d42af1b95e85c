//! One row: the source's tuple in, the target's tuple, its key and its fingerprints out, or every
//! reason why not.

use std::collections::HashMap;
use std::sync::Arc;

use regraft_pg::copy::{Tuple, Writer};
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::numeric::{self, Misfit};
use super::{Doubles, MappedRow, Merged, Reason, Survey, json};
use crate::error::{Error, Kind, Result};
use crate::keys::{Deriver, Found, KeyMap, LegacyId};
use crate::model::{
    BadText, EmptyText, EntityModel, KeyRule, Limit, MissingKey, OutputRule, Recode,
};

/// What became of a row.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its tuple was appended to the block.
    Written {
        /// Its key in the target.
        key: Uuid,
        /// XXH3-128 of the source tuple.
        fingerprint: u128,
    },
    /// It was moved by an earlier run.
    InPlace {
        /// Whether the source row has changed since.
        changed: bool,
    },
    /// It is merged into another row; nothing was appended.
    Merged,
    /// It can't be moved; nothing was appended.
    Faulty(Vec<Reason>),
}

/// Makes target rows of one entity out of source tuples.
pub(crate) struct Transformer {
    model: Arc<EntityModel>,
    deriver: Option<Deriver>,
    parents: HashMap<String, Arc<KeyMap>>,
    /// Rows that lose to an earlier one under a unique constraint.
    pub(crate) losers: Arc<HashMap<LegacyId, Vec<Reason>>>,
    /// Rows that are merged into others.
    pub(crate) merged: Arc<Merged>,
    /// Where equal rows are watched for: in a bulk load.
    pub(crate) doubles: Option<Arc<Doubles>>,
    /// What counts rows as they come by: for a plan.
    pub(crate) survey: Option<Survey>,
    /// Rows of the current batch that are in place already.
    pub(crate) existing: HashMap<LegacyId, MappedRow>,
    /// The text form of the current row's legacy id.
    id_text: String,
    scratch: Vec<u8>,
    reasons: Vec<Reason>,
}

/// What is appended for one column.
enum Value<'a> {
    Null,
    Bytes(&'a [u8]),
    Scratch,
    Key(Uuid),
}

impl Transformer {
    /// A transformer; `parents` holds the keys of every entity the model refers to.
    ///
    /// # Errors
    /// A parent without keys, or a derived key without a secret: faults of the caller.
    pub(crate) fn new(
        model: Arc<EntityModel>,
        deriver: Option<Deriver>,
        parents: HashMap<String, Arc<KeyMap>>,
        losers: Arc<HashMap<LegacyId, Vec<Reason>>>,
    ) -> Result<Self> {
        let derived = matches!(model.key_rule, KeyRule::V5 | KeyRule::V7 { .. });
        if derived && deriver.is_none() {
            return Err(
                Error::new(Kind::Internal, "no secret to derive keys with").in_entity(&model.name)
            );
        }
        for parent in model.parents() {
            let waits = !matches!(&model.key_rule, KeyRule::SameAs { entity, .. } if entity == parent)
                && model.outputs.iter().all(|o| match &o.rule {
                    OutputRule::Reference { entity, later, .. } => entity != parent || *later,
                    OutputRule::ReferenceBy { cases, later, .. } => {
                        *later || !cases.values().any(|e| e == parent)
                    }
                    _ => true,
                });
            if !waits && !parents.contains_key(parent) {
                return Err(Error::new(
                    Kind::Internal,
                    format!("the keys of {parent} are not at hand"),
                )
                .in_entity(&model.name));
            }
        }
        Ok(Self {
            model,
            deriver,
            parents,
            losers,
            merged: Arc::default(),
            doubles: None,
            survey: None,
            existing: HashMap::new(),
            id_text: String::new(),
            scratch: Vec::new(),
            reasons: Vec::new(),
        })
    }

    /// The legacy id of a tuple; its first field.
    pub(crate) fn legacy_id(&self, bytes: &[u8], tuple: &Tuple) -> Result<LegacyId> {
        let field = tuple.field(bytes, 0).ok_or_else(|| {
            Error::new(Kind::Data, "a row of the source has no key (NULL)")
                .in_entity(&self.model.name)
                .hint("filter such rows out by name in the project, or choose another key")
        })?;
        LegacyId::from_field(self.model.numeric, Some(field))
            .ok_or_else(|| corrupt(&self.model.name))
    }

    /// Appends the target row of a source tuple to `block`, and its column fingerprints to
    /// `fingerprints` (cleared first).
    pub(crate) fn row(
        &mut self,
        id: &LegacyId,
        bytes: &[u8],
        tuple: &Tuple,
        block: &mut Writer,
        fingerprints: &mut Vec<u8>,
    ) -> Result<Outcome> {
        if let Some(survey) = &mut self.survey
            && !self.merged.contains_key(id)
        {
            survey.row(id, bytes, tuple, &self.parents);
        }
        self.set_id(id);
        let fingerprint = xxh3_128(bytes);
        if !self.existing.is_empty()
            && let Some(mapped) = self.existing.get(id)
        {
            return Ok(Outcome::InPlace {
                changed: mapped.fingerprint != fingerprint,
            });
        }
        if self.merged.contains_key(id) {
            return Ok(Outcome::Merged);
        }
        self.reasons.clear();
        fingerprints.clear();
        let mark = block.mark();
        let model = Arc::clone(&self.model);
        block.tuple(model.outputs.len() as i16);
        let key = self.key(&model, id, bytes, tuple)?;
        for output in &model.outputs {
            let value = self.value(&model, &output.rule, &output.column, id, key, bytes, tuple)?;
            self.check(&value, output.not_null, output.limit, &output.column);
            let at = block.mark() + 4;
            match value {
                Value::Null => block.null(),
                Value::Bytes(value) => block.field(as_stored(value, output.limit)),
                Value::Scratch => block.field(as_stored(&self.scratch, output.limit)),
                Value::Key(key) => block.field(key.as_bytes()),
            }
            if let (Limit::Numeric { scale, .. }, false) =
                (output.limit, matches!(value, Value::Null))
            {
                numeric::set_scale(block.since_mut(at), scale);
            }
            if !matches!(output.rule, OutputRule::Key) {
                let print = match value {
                    Value::Null => NULL_FINGERPRINT,
                    _ => output.rule.fingerprint(block.since(at)),
                };
                fingerprints.extend_from_slice(&print);
            }
        }
        if let Some(reasons) = self.losers.get(id) {
            self.reasons.extend_from_slice(reasons);
        }
        if self.reasons.is_empty() {
            if let Some(doubles) = &self.doubles {
                doubles.note(block.since(mark), key);
            }
            return Ok(Outcome::Written { key, fingerprint });
        }
        block.truncate(mark);
        Ok(Outcome::Faulty(std::mem::take(&mut self.reasons)))
    }

    fn set_id(&mut self, id: &LegacyId) {
        self.id_text.clear();
        match id {
            LegacyId::Number(n) => self.id_text.push_str(itoa::Buffer::new().format(*n)),
            LegacyId::Text(text) => self.id_text.push_str(text),
        }
    }

    fn key(
        &mut self,
        model: &EntityModel,
        id: &LegacyId,
        bytes: &[u8],
        tuple: &Tuple,
    ) -> Result<Uuid> {
        let column = model.key_column.as_str();
        let key = match &model.key_rule {
            KeyRule::V5 => self.deriver.as_ref().map(|d| d.v5(self.id_text.as_bytes())),
            KeyRule::V4 => Some(Uuid::new_v4()),
            KeyRule::V7 { time } => {
                let time = tuple.field(bytes, time + 1).and_then(|b| b.try_into().ok());
                let time = time.map(i64::from_be_bytes);
                match (time, &self.deriver) {
                    (Some(time), Some(deriver)) => Some(deriver.v7(self.id_text.as_bytes(), time)),
                    _ => self.fault(Reason::column("not_null", column)),
                }
            }
            KeyRule::Uuid { field } => match tuple.field(bytes, field + 1).map(Uuid::from_slice) {
                Some(Ok(key)) => Some(key),
                Some(Err(_)) => return Err(corrupt(&model.name)),
                None => self.fault(Reason::column("not_null", column)),
            },
            KeyRule::UuidText { field } => {
                match tuple.field(bytes, field + 1).map(Uuid::try_parse_ascii) {
                    Some(Ok(key)) => Some(key),
                    Some(Err(_)) => self.fault(Reason::column("invalid_uuid", column)),
                    None => self.fault(Reason::column("not_null", column)),
                }
            }
            KeyRule::SameAs { entity, field } => match tuple.field(bytes, field + 1) {
                None => self.fault(Reason::column("not_null", column)),
                Some(value) => self.lookup(entity, value, column, &MissingKey::Quarantine, id)?,
            },
        };
        Ok(key.unwrap_or(Uuid::nil()))
    }

    fn fault<T>(&mut self, reason: Reason) -> Option<T> {
        self.reasons.push(reason);
        None
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one row, on the hot path"
    )]
    fn value<'a>(
        &mut self,
        model: &'a EntityModel,
        rule: &'a OutputRule,
        column: &str,
        id: &LegacyId,
        key: Uuid,
        bytes: &'a [u8],
        tuple: &Tuple,
    ) -> Result<Value<'a>> {
        let of = |field: &usize| tuple.field(bytes, field + 1);
        Ok(match rule {
            OutputRule::Key => Value::Key(key),
            OutputRule::LegacyId { width } => self.legacy_value(*width, column, id),
            OutputRule::Copy { field } => of(field).map_or(Value::Null, Value::Bytes),
            OutputRule::Constant(value) => value.as_deref().map_or(Value::Null, Value::Bytes),
            OutputRule::Narrow { field, width } => match of(field) {
                None => Value::Null,
                Some(value) => {
                    let number: [u8; 8] = value.try_into().map_err(|_| corrupt(&model.name))?;
                    self.narrow(i64::from_be_bytes(number), *width, column)
                }
            },
            OutputRule::Recode { field, recode } => match of(field) {
                None => Value::Null,
                Some(value) => self.recode(recode, value, &model.name)?,
            },
            OutputRule::Label { field, labels } => match of(field) {
                None => Value::Null,
                Some(value) => {
                    if !labels.contains(value) {
                        self.reasons.push(Reason::column("unmapped_value", column));
                    }
                    Value::Bytes(value)
                }
            },
            OutputRule::Map {
                field,
                map,
                null,
                otherwise,
            } => match of(field) {
                None => null.as_deref().map_or(Value::Null, Value::Bytes),
                Some(value) => match map.get(value).or(otherwise.as_ref()) {
                    Some(becomes) => Value::Bytes(becomes),
                    None => {
                        self.reasons.push(Reason::column("unmapped_value", column));
                        // Something that passes the checks that follow: the row is at fault for
                        // its code, not for the NULL that no code would make of it.
                        Value::Bytes(&[])
                    }
                },
            },
            OutputRule::Document(document) => {
                self.scratch.clear();
                document
                    .write(of, &mut self.scratch)
                    .ok_or_else(|| corrupt(&model.name))?;
                Value::Scratch
            }
            OutputRule::Json {
                field,
                binary,
                bad,
                empty,
            } => self.json(of(field), *binary, bad, empty, column),
            OutputRule::Reference { later: true, .. } => Value::Null,
            OutputRule::Reference {
                field,
                entity,
                missing,
                ..
            } => match of(field) {
                None => Value::Null,
                Some(value) => self.reference(entity, value, column, missing, id)?,
            },
            OutputRule::ReferenceBy {
                by,
                field,
                cases,
                missing,
                later,
            } => match (of(by), of(field)) {
                (_, None) => Value::Null,
                (by, Some(value)) => match by.and_then(|by| cases.get(by)) {
                    Some(_) if *later => Value::Null,
                    Some(entity) => self.reference(entity, value, column, missing, id)?,
                    None => match missing {
                        MissingKey::Null => Value::Null,
                        MissingKey::Key(key) => Value::Bytes(key),
                        MissingKey::Quarantine => {
                            self.reasons.push(Reason::column("unmapped_value", column));
                            Value::Key(Uuid::nil())
                        }
                    },
                },
            },
        })
    }

    fn reference<'a>(
        &mut self,
        entity: &str,
        value: &[u8],
        column: &str,
        missing: &'a MissingKey,
        id: &LegacyId,
    ) -> Result<Value<'a>> {
        Ok(match self.lookup(entity, value, column, missing, id)? {
            Some(key) => Value::Key(key),
            None => match missing {
                MissingKey::Null => Value::Null,
                MissingKey::Key(key) => Value::Bytes(key),
                // A reason was noted; the value passes the checks that follow.
                MissingKey::Quarantine => Value::Key(Uuid::nil()),
            },
        })
    }

    /// The key of the parent with this legacy id; `None` when it isn't there, with a reason noted
    /// where the rule asks for one.
    fn lookup(
        &mut self,
        entity: &str,
        value: &[u8],
        column: &str,
        missing: &MissingKey,
        _id: &LegacyId,
    ) -> Result<Option<Uuid>> {
        let keys = self.parents.get(entity).ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("the keys of {entity} are not at hand"),
            )
            .in_entity(&self.model.name)
        })?;
        let (found, number) = if keys.is_numeric() {
            let number: [u8; 8] = value.try_into().map_err(|_| corrupt(&self.model.name))?;
            let number = i64::from_be_bytes(number);
            (keys.number(number), Some(number))
        } else {
            (keys.text(value), None)
        };
        let code = match found {
            Found::Key(key) => return Ok(Some(key)),
            Found::Stopped => "blocked_parent",
            Found::Absent => "missing_parent",
        };
        if *missing == MissingKey::Quarantine {
            let parent_id = number.map_or_else(
                || String::from_utf8_lossy(value).into_owned(),
                |n| n.to_string(),
            );
            self.reasons
                .push(Reason::parent(code, column, entity, parent_id));
        }
        Ok(None)
    }

    fn legacy_value(&mut self, width: usize, column: &str, id: &LegacyId) -> Value<'static> {
        match (width, id) {
            (0, _) | (_, LegacyId::Text(_)) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(self.id_text.as_bytes());
                Value::Scratch
            }
            (width, LegacyId::Number(n)) => self.narrow(*n, width, column),
        }
    }

    fn narrow(&mut self, number: i64, width: usize, column: &str) -> Value<'static> {
        let fits = match width {
            2 => i16::try_from(number).is_ok(),
            4 => i32::try_from(number).is_ok(),
            _ => true,
        };
        if !fits {
            self.reasons
                .push(Reason::column("numeric_out_of_range", column));
        }
        self.scratch.clear();
        self.scratch
            .extend_from_slice(&number.to_be_bytes()[8 - width..]);
        Value::Scratch
    }

    fn recode(&mut self, recode: &Recode, value: &[u8], entity: &str) -> Result<Value<'static>> {
        self.scratch.clear();
        crate::model::recode(recode, value, &mut self.scratch).ok_or_else(|| corrupt(entity))?;
        Ok(Value::Scratch)
    }

    fn json<'a>(
        &mut self,
        value: Option<&'a [u8]>,
        binary: bool,
        bad: &BadText,
        empty: &'a EmptyText,
        column: &str,
    ) -> Value<'a> {
        let Some(text) = value else {
            return Value::Null;
        };
        self.scratch.clear();
        if binary {
            // jsonb: a version byte, then the text (jsonb.c, jsonb_recv).
            self.scratch.push(1);
        }
        if text.trim_ascii().is_empty() {
            match empty {
                EmptyText::Null => return Value::Null,
                EmptyText::Value(text) => {
                    self.scratch.extend_from_slice(text);
                    return Value::Scratch;
                }
                EmptyText::Quarantine => {
                    self.reasons.push(Reason::column("invalid_json", column));
                    return Value::Scratch;
                }
            }
        }
        if json::is_valid(text, binary) {
            self.scratch.extend_from_slice(text);
            return Value::Scratch;
        }
        match bad {
            BadText::Null => return Value::Null,
            BadText::Quarantine => self.reasons.push(Reason::column("invalid_json", column)),
            BadText::KeepAs(name) => {
                let kept = serde_json::json!({ name: String::from_utf8_lossy(text) });
                self.scratch.extend_from_slice(kept.to_string().as_bytes());
            }
        }
        Value::Scratch
    }

    /// What the catalogs tell about a value that COPY would refuse or change.
    fn check(&mut self, value: &Value<'_>, not_null: bool, limit: Limit, column: &str) {
        let bytes = match value {
            Value::Null => {
                if not_null {
                    self.reasons.push(Reason::column("not_null", column));
                }
                return;
            }
            Value::Bytes(bytes) => *bytes,
            Value::Scratch => self.scratch.as_slice(),
            Value::Key(_) => return,
        };
        let code = match limit {
            Limit::None => return,
            Limit::Characters(most) | Limit::Padded(most) => {
                let bytes = as_stored(bytes, limit);
                (bytes.len() > most && characters(bytes) > most).then_some("value_too_long")
            }
            Limit::Numeric { precision, scale } => {
                if bytes.is_empty() {
                    return;
                }
                match numeric::misfit(bytes, precision, scale) {
                    Some(Misfit::Range) => Some("numeric_out_of_range"),
                    Some(Misfit::Scale) => Some("numeric_scale"),
                    None => None,
                }
            }
            Limit::TimeStep(step) => bytes
                .try_into()
                .map(i64::from_be_bytes)
                .is_ok_and(|time| time != i64::MAX && time != i64::MIN && time % step != 0)
                .then_some("time_precision"),
        };
        if let Some(code) = code {
            self.reasons.push(Reason::column(code, column));
        }
    }
}

fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

/// A value as the target will store it: character(n) comes back without the blanks it is padded
/// with when it is read as text.
fn as_stored(value: &[u8], limit: Limit) -> &[u8] {
    match limit {
        Limit::Padded(_) => {
            let end = value.iter().rposition(|byte| *byte != b' ');
            &value[..end.map_or(0, |at| at + 1)]
        }
        _ => value,
    }
}

/// What stands for NULL among fingerprints.
pub(crate) const NULL_FINGERPRINT: [u8; 4] = [0; 4];

impl OutputRule {
    /// 32 bits of XXH3 of what a column holds. JSON that was text is stored in a form of the
    /// server's own: what counts is what it says.
    pub(crate) fn fingerprint(&self, bytes: &[u8]) -> [u8; 4] {
        match self.canonical_json(bytes) {
            Some(canonical) => fingerprint_of(&canonical),
            None => fingerprint_of(bytes),
        }
    }

    /// Whether two values of the column say the same.
    pub(crate) fn is_same(&self, one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
        one == other
            || one.zip(other).is_some_and(|(one, other)| {
                let (one, other) = (self.canonical_json(one), self.canonical_json(other));
                one.is_some() && one == other
            })
    }

    fn canonical_json(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            // jsonb: a version byte, then the text.
            Self::Json { binary: true, .. } => json::canonical(bytes.get(1..)?),
            _ => None,
        }
    }
}

/// 32 bits of XXH3 of a value's bytes, never those of NULL.
pub(crate) fn fingerprint_of(bytes: &[u8]) -> [u8; 4] {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let half = xxh3_64(bytes) as u32;
    half.max(1).to_be_bytes()
}

/// What is said of bytes of the source that are not laid out as their type says.
pub(crate) fn corrupt(entity: &str) -> Error {
    Error::new(
        Kind::Internal,
        "the source sent a value that is not laid out as its type says",
    )
    .in_entity(entity)
}
