//! What an SQLSTATE means: its standard name, its kind, and whether the server's primary
//! message for it can be shown.

use super::ErrorKind;

/// The condition name of an SQLSTATE as PostgreSQL's appendix A lists it, for the codes a
/// migration meets. Unlisted codes of a listed class get the name of the class.
pub(super) fn name(sqlstate: &str) -> Option<&'static str> {
    exact_name(sqlstate).or_else(|| class_name(sqlstate))
}

fn exact_name(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "08001" => "sqlclient_unable_to_establish_sqlconnection",
        "08003" => "connection_does_not_exist",
        "08004" => "sqlserver_rejected_establishment_of_sqlconnection",
        "08006" => "connection_failure",
        "08P01" => "protocol_violation",
        "22001" => "string_data_right_truncation",
        "22002" => "null_value_no_indicator_parameter",
        "22003" => "numeric_value_out_of_range",
        "22004" => "null_value_not_allowed",
        "22007" => "invalid_datetime_format",
        "22008" => "datetime_field_overflow",
        "22009" => "invalid_time_zone_displacement_value",
        "22011" => "substring_error",
        "22012" => "division_by_zero",
        "22015" => "interval_field_overflow",
        "22018" => "invalid_character_value_for_cast",
        "22021" => "character_not_in_repertoire",
        "22023" => "invalid_parameter_value",
        "22026" => "string_data_length_mismatch",
        "2202E" => "array_subscript_error",
        "22030" => "duplicate_json_object_key_value",
        "22032" => "invalid_json_text",
        "2200N" => "invalid_xml_content",
        "22P01" => "floating_point_exception",
        "22P02" => "invalid_text_representation",
        "22P03" => "invalid_binary_representation",
        "22P04" => "bad_copy_file_format",
        "22P05" => "untranslatable_character",
        "22P06" => "nonstandard_use_of_escape_character",
        "23001" => "restrict_violation",
        "23502" => "not_null_violation",
        "23503" => "foreign_key_violation",
        "23505" => "unique_violation",
        "23514" => "check_violation",
        "23P01" => "exclusion_violation",
        "25001" => "active_sql_transaction",
        "25006" => "read_only_sql_transaction",
        "25P01" => "no_active_sql_transaction",
        "25P02" => "in_failed_sql_transaction",
        "25P03" => "idle_in_transaction_session_timeout",
        "28000" => "invalid_authorization_specification",
        "28P01" => "invalid_password",
        "2BP01" => "dependent_objects_still_exist",
        "3D000" => "invalid_catalog_name",
        "3F000" => "invalid_schema_name",
        "40001" => "serialization_failure",
        "40002" => "transaction_integrity_constraint_violation",
        "40003" => "statement_completion_unknown",
        "40P01" => "deadlock_detected",
        "42501" => "insufficient_privilege",
        "42601" => "syntax_error",
        "42602" => "invalid_name",
        "42622" => "name_too_long",
        "42701" => "duplicate_column",
        "42702" => "ambiguous_column",
        "42703" => "undefined_column",
        "42704" => "undefined_object",
        "42710" => "duplicate_object",
        "42725" => "ambiguous_function",
        "42803" => "grouping_error",
        "42804" => "datatype_mismatch",
        "42809" => "wrong_object_type",
        "42830" => "invalid_foreign_key",
        "42846" => "cannot_coerce",
        "42883" => "undefined_function",
        "42P01" => "undefined_table",
        "42P02" => "undefined_parameter",
        "42P04" => "duplicate_database",
        "42P05" => "duplicate_prepared_statement",
        "42P06" => "duplicate_schema",
        "42P07" => "duplicate_table",
        "42P10" => "invalid_column_reference",
        "42P17" => "invalid_object_definition",
        "42P18" => "indeterminate_datatype",
        "42P22" => "indeterminate_collation",
        "428C9" => "generated_always",
        "44000" => "with_check_option_violation",
        "53100" => "disk_full",
        "53200" => "out_of_memory",
        "53300" => "too_many_connections",
        "53400" => "configuration_limit_exceeded",
        "54001" => "statement_too_complex",
        "54011" => "too_many_columns",
        "54023" => "too_many_arguments",
        "55000" => "object_not_in_prerequisite_state",
        "55006" => "object_in_use",
        "55P02" => "cant_change_runtime_param",
        "55P03" => "lock_not_available",
        "57014" => "query_canceled",
        "57P01" => "admin_shutdown",
        "57P02" => "crash_shutdown",
        "57P03" => "cannot_connect_now",
        "57P04" => "database_dropped",
        "57P05" => "idle_session_timeout",
        "58030" => "io_error",
        "58P01" => "undefined_file",
        "P0001" => "raise_exception",
        "P0002" => "no_data_found",
        "P0003" => "too_many_rows",
        "P0004" => "assert_failure",
        "XX001" => "data_corrupted",
        "XX002" => "index_corrupted",
        _ => return None,
    })
}

fn class_name(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate.get(..2)? {
        "08" => "connection_exception",
        "0A" => "feature_not_supported",
        "22" => "data_exception",
        "23" => "integrity_constraint_violation",
        "25" => "invalid_transaction_state",
        "28" => "invalid_authorization_specification",
        "40" => "transaction_rollback",
        "42" => "syntax_error_or_access_rule_violation",
        "53" => "insufficient_resources",
        "54" => "program_limit_exceeded",
        "55" => "object_not_in_prerequisite_state",
        "57" => "operator_intervention",
        "58" => "system_error",
        "P0" => "plpgsql_error",
        "XX" => "internal_error",
        _ => return None,
    })
}

/// The kind of an SQLSTATE.
pub(super) fn kind(sqlstate: &str) -> ErrorKind {
    match sqlstate {
        "42501" | "25006" => ErrorKind::Permission,
        "40001" | "40P01" => ErrorKind::Serialization,
        "40002" | "44000" => ErrorKind::Constraint,
        "40003" | "25P03" => ErrorKind::ConnectionLost,
        "55P03" => ErrorKind::LockNotAvailable,
        "57014" => ErrorKind::QueryCanceled,
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => ErrorKind::ConnectionLost,
        "08P01" => ErrorKind::Protocol,
        // Triggers reject rows with these: the row is at fault, not the statement.
        "P0001" | "P0004" => ErrorKind::Data,
        _ => match sqlstate.get(..2) {
            Some("08") => ErrorKind::ConnectionLost,
            Some("22") => ErrorKind::Data,
            Some("23") => ErrorKind::Constraint,
            Some("28") => ErrorKind::Authentication,
            Some("53" | "54" | "58") => ErrorKind::Resource,
            _ => ErrorKind::Query,
        },
    }
}

/// Whether the primary message of this SQLSTATE can be kept without keeping row values.
///
/// `file` is the server's source file that raised the error. Procedural languages let a trigger
/// choose any SQLSTATE for a message of its own making (`raise exception 'bad %', new.email
/// using errcode = 'check_violation'`), so what they raise is never kept, and of class 23 only
/// what the server's own constraint checks said.
pub(super) fn message_is_safe(sqlstate: &str, file: Option<&str>) -> bool {
    let file = file.map(|path| path.rsplit(['/', '\\']).next().unwrap_or(path));
    match sqlstate.get(..2) {
        Some("23") => file.is_some_and(|file| CONSTRAINT_CHECKS.contains(&file)),
        Some(
            "08" | "0A" | "25" | "28" | "2B" | "3D" | "3F" | "40" | "42" | "53" | "55" | "57"
            | "58",
        ) => !file.is_some_and(raised_by_a_function),
        _ => false,
    }
}

/// The server's source files whose class 23 messages name constraints, tables and columns only.
const CONSTRAINT_CHECKS: [&str; 12] = [
    "execIndexing.c",
    "execMain.c",
    "execPartition.c",
    "execExprInterp.c",
    "domains.c",
    "index.c",
    "nbtinsert.c",
    "ri_triggers.c",
    "tablecmds.c",
    "tuplesort.c",
    "tuplesortvariants.c",
    "typecmds.c",
];

/// The server itself is written in C; its files for the procedural languages begin as these do,
/// and languages of others come in other suffixes.
fn raised_by_a_function(file: &str) -> bool {
    const LANGUAGES: [&str; 5] = ["pl_exec", "plpy", "plperl", "pltcl", "plv8"];
    let of_the_server = [".c", ".h", ".l", ".y"]
        .iter()
        .any(|suffix| file.ends_with(suffix));
    !of_the_server || LANGUAGES.iter().any(|language| file.starts_with(language))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_kind_that_decides_what_to_do_next() {
        for (sqlstate, expected) in [
            ("40001", ErrorKind::Serialization),
            ("40P01", ErrorKind::Serialization),
            ("23505", ErrorKind::Constraint),
            ("23P01", ErrorKind::Constraint),
            ("22P02", ErrorKind::Data),
            ("P0001", ErrorKind::Data),
            ("42501", ErrorKind::Permission),
            ("25006", ErrorKind::Permission),
            ("42P01", ErrorKind::Query),
            ("XX000", ErrorKind::Query),
            ("53300", ErrorKind::Resource),
            ("54000", ErrorKind::Resource),
            ("57P01", ErrorKind::ConnectionLost),
            ("08006", ErrorKind::ConnectionLost),
            ("57014", ErrorKind::QueryCanceled),
            ("55P03", ErrorKind::LockNotAvailable),
            ("28P01", ErrorKind::Authentication),
            ("x", ErrorKind::Query),
        ] {
            assert_eq!(kind(sqlstate), expected, "{sqlstate}");
        }
    }

    #[test]
    fn only_messages_that_cannot_hold_values_are_kept() {
        assert!(message_is_safe("23505", Some("nbtinsert.c")));
        assert!(message_is_safe("23503", Some("../src/ri_triggers.c")));
        assert!(message_is_safe("42601", Some("scan.l")));
        assert!(message_is_safe("57P01", None));
        for (sqlstate, file) in [
            ("23514", Some("pl_exec.c")),
            ("23514", None),
            ("42501", Some("pl_exec.c")),
            ("55000", Some("plpy_elog.c")),
            ("55000", Some("src/lib.rs")),
            ("22P02", Some("numutils.c")),
            ("P0001", Some("pl_exec.c")),
            ("XX000", Some("heapam.c")),
            ("ZZ123", Some("nbtinsert.c")),
            ("", None),
        ] {
            assert!(!message_is_safe(sqlstate, file), "{sqlstate} {file:?}");
        }
    }

    #[test]
    fn an_unlisted_code_is_named_after_its_class() {
        assert_eq!(name("22999"), Some("data_exception"));
        assert_eq!(name("23505"), Some("unique_violation"));
        assert_eq!(name("ZZ000"), None);
        assert_eq!(name("é"), None);
    }
}
