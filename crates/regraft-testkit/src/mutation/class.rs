//! The ways in which a target can be wrong.

/// A way in which a target can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// One bit of one letter of a text.
    TextBit,
    /// A blank at the end of a text.
    TrailingBlank,
    /// A letter that looks the same.
    LookAlike,
    /// Another Unicode normal form of the same characters.
    NormalForm,
    /// A text without its last letter.
    Shortened,
    /// NULL where there was empty text.
    NullForEmpty,
    /// Empty text where there was NULL.
    EmptyForNull,
    /// NULL where there was a value of any type.
    NullForValue,
    /// A decimal without its last digit.
    Rounded,
    /// A decimal or a float that is off by the least it can be.
    LeastDigit,
    /// One bit of an integer.
    IntegerBit,
    /// A time that is a microsecond late.
    Microsecond,
    /// A time that was read in another time zone.
    Zone,
    /// A date that is a day late.
    Day,
    /// Another label of an enum.
    EnumLabel,
    /// Yes for no.
    Boolean,
    /// Another byte in a bytea.
    Byte,
    /// A key of a JSON document, at any depth, has another name.
    JsonKey,
    /// A value in a JSON document is another.
    JsonValue,
    /// A JSON document without its nulls.
    JsonNulls,
    /// An element of a JSON array is gone.
    JsonElement,
    /// An element of an array is another, is gone, or is there twice.
    ArrayElement,
    /// A reference is NULL.
    DroppedEdge,
    /// A row belongs to another parent.
    MovedChild,
    /// Two rows have each other's parent.
    SwappedParents,
    /// A reference to nothing.
    DanglingEdge,
    /// A reference where the source has none.
    InventedEdge,
    /// A row is there again, under another key.
    DuplicatedRow,
    /// A row is gone.
    MissingRow,
    /// A row is gone that others refer to.
    MissingParent,
    /// A row that nobody migrated.
    ForeignRow,
    /// Two legacy ids have each other's key.
    SwappedMappings,
    /// A legacy id has no key.
    MissingMapping,
    /// A row says that it comes from another legacy id.
    LegacyId,
    /// A figure in the account of an entity.
    AccountCount,
    /// A figure in the account of a batch.
    BatchCount,
    /// A figure of a checkpoint.
    CheckpointCount,
    /// A row is left out of the quarantine.
    QuarantineEntry,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::TextBit,
        Self::TrailingBlank,
        Self::LookAlike,
        Self::NormalForm,
        Self::Shortened,
        Self::NullForEmpty,
        Self::EmptyForNull,
        Self::NullForValue,
        Self::Rounded,
        Self::LeastDigit,
        Self::IntegerBit,
        Self::Microsecond,
        Self::Zone,
        Self::Day,
        Self::EnumLabel,
        Self::Boolean,
        Self::Byte,
        Self::JsonKey,
        Self::JsonValue,
        Self::JsonNulls,
        Self::JsonElement,
        Self::ArrayElement,
        Self::DroppedEdge,
        Self::MovedChild,
        Self::SwappedParents,
        Self::DanglingEdge,
        Self::InventedEdge,
        Self::DuplicatedRow,
        Self::MissingRow,
        Self::MissingParent,
        Self::ForeignRow,
        Self::SwappedMappings,
        Self::MissingMapping,
        Self::LegacyId,
        Self::AccountCount,
        Self::BatchCount,
        Self::CheckpointCount,
        Self::QuarantineEntry,
    ];
}
