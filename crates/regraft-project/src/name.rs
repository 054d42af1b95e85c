//! Names: what they may look like, and what somebody who mistyped one may have meant.

/// Longest identifier PostgreSQL keeps without cutting it, in bytes.
pub(crate) const MAX_IDENTIFIER: usize = 63;

/// Whether `name` may name an entity: `[a-z][a-z0-9_]*`, short enough for an identifier.
pub(crate) fn is_entity_name(name: &str) -> bool {
    starts_and_continues(name, |c| c == '_')
}

/// Whether `name` may name a project, a group or a filter: `[a-z][a-z0-9_-]*`.
pub(crate) fn is_label(name: &str) -> bool {
    starts_and_continues(name, |c| c == '_' || c == '-')
}

fn starts_and_continues(name: &str, also: fn(char) -> bool) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also(c))
        && name.len() <= MAX_IDENTIFIER
}

/// What keeps `name` from being an SQL identifier, if anything does. Any letters are fine,
/// since identifiers are quoted where they are used.
pub(crate) fn identifier_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_IDENTIFIER {
        Some("is longer than the 63 bytes PostgreSQL keeps of a name")
    } else if name.contains('"') {
        Some("holds a quote; names are quoted for you")
    } else if name.chars().any(char::is_control) {
        Some("holds a control character")
    } else if name.trim() != name {
        Some("begins or ends with a space")
    } else {
        None
    }
}

/// `name` made into an entity name as well as that can be done.
pub(crate) fn as_entity_name(name: &str) -> Option<String> {
    let cleaned: String = name
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '_'
            }
        })
        .collect();
    let cleaned = cleaned.trim_matches('_').to_owned();
    is_entity_name(&cleaned).then_some(cleaned)
}

/// The candidate that `name` was most likely meant to be, if one is near.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase());
            let allowed = (wanted.chars().count().max(candidate.chars().count()) / 3).max(1);
            (distance <= allowed && candidate != name).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean ...?" when a candidate is near, otherwise the list of what there is.
pub(crate) fn suggestion<'a>(
    name: &str,
    known_as: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(near) = nearest(name, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let list = quoted_list(candidates);
    if list.is_empty() {
        format!("there are no {known_as}")
    } else {
        format!("{known_as}: {list}")
    }
}

/// The names in backquotes with commas between.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_names_are_plain_identifiers() {
        for good in ["a", "orders", "doctor_offices", "t2"] {
            assert!(is_entity_name(good), "{good}");
        }
        for bad in [
            "",
            "Orders",
            "2t",
            "_a",
            "a-b",
            "a.b",
            "ä",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(!is_entity_name(bad), "{bad}");
        }
        assert!(is_label("core-with-patients") && !is_label("-core"));
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["orders", "offices", "patients"];
        assert_eq!(nearest("ordesr", known), Some("orders"));
        assert_eq!(nearest("Patients", known), Some("patients"));
        assert_eq!(nearest("tasks", known), None);
        assert_eq!(nearest("fro", ["from", "key"]), Some("from"));
    }

    #[test]
    fn a_bad_stem_is_turned_into_a_name() {
        assert_eq!(
            as_entity_name("Doctor-Offices").as_deref(),
            Some("doctor_offices")
        );
        assert_eq!(as_entity_name("2nd"), None);
        assert_eq!(as_entity_name("---"), None);
    }
}
