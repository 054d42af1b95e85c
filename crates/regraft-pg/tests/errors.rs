//! Errors of a real server: classified, named, and free of the values of the rows at fault.

mod cluster;

use bytes::Bytes;
use futures_util::SinkExt;
use regraft_pg::{Error, ErrorKind, Session, Side};

/// Stands in every row that is at fault, and must stand in no error.
const VALUE: &str = "hunter2";

const SCHEMA: &str = "
    create table pg_temp.offices (id int primary key, name text);
    create temp table orders (
        id int constraint orders_pkey primary key,
        email text not null constraint orders_email_key unique,
        amount numeric(6,2) constraint orders_amount_check check (amount >= 0),
        code varchar(3),
        office_id int,
        note text,
        during int4range, constraint orders_during_excl exclude using gist (during with &&)
    );
    insert into orders values (1, 'hunter2', 1, null, null, null, '[1,5)');
    create temp table items (order_id int constraint items_order_id_fkey references orders);
    create domain pg_temp.email as text constraint email_check check (value like '%@%');
    create function pg_temp.reject() returns trigger language plpgsql as $$
        begin
            case tg_argv[0]
                when 'plain' then raise exception 'bad row %', new.v;
                when 'check' then raise exception 'bad row %', new.v
                    using errcode = 'check_violation', constraint = 'v_rule', table = 'rejecting',
                          detail = new.v, hint = new.v;
                when 'privilege' then raise exception 'bad row %', new.v using errcode = '42501';
                else assert false, new.v;
            end case;
            return new;
        end $$;
    create temp table reject_plain (v text);
    create temp table reject_check (v text);
    create temp table reject_privilege (v text);
    create temp table reject_assert (v text);
    create trigger t before insert on reject_plain for each row
        execute function pg_temp.reject('plain');
    create trigger t before insert on reject_check for each row
        execute function pg_temp.reject('check');
    create trigger t before insert on reject_privilege for each row
        execute function pg_temp.reject('privilege');
    create trigger t before insert on reject_assert for each row
        execute function pg_temp.reject('assert');
    create temp table parts (v text) partition by list (v);
    create temp view orders_view as select * from orders where email <> 'hunter2x'
        with check option;
    create temp table computed (a text, b text generated always as (a) stored);
";

struct Case {
    statement: &'static str,
    kind: ErrorKind,
    display: &'static str,
}

const fn case(statement: &'static str, kind: ErrorKind, display: &'static str) -> Case {
    Case {
        statement,
        kind,
        display,
    }
}

use ErrorKind::{Constraint, Data, Permission, Query};

const CASES: [Case; 21] = [
    case(
        "insert into orders values (2, 'hunter2')",
        Constraint,
        "target: 23505 unique_violation: duplicate key value violates unique constraint \
         \"orders_email_key\"",
    ),
    case(
        "insert into orders (id, note) values (3, 'hunter2')",
        Constraint,
        "target: 23502 not_null_violation: null value in column \"email\" of relation \"orders\" \
         violates not-null constraint",
    ),
    case(
        "insert into orders values (4, 'hunter2b', -1)",
        Constraint,
        "target: 23514 check_violation: new row for relation \"orders\" violates check constraint \
         \"orders_amount_check\"",
    ),
    case(
        "insert into items values (4711)",
        Constraint,
        "target: 23503 foreign_key_violation: insert or update on table \"items\" violates \
         foreign key constraint \"items_order_id_fkey\"",
    ),
    case(
        "insert into orders values (5, 'hunter2c', 1, null, null, null, '[2,3)')",
        Constraint,
        "target: 23P01 exclusion_violation: conflicting key value violates exclusion constraint \
         \"orders_during_excl\"",
    ),
    case(
        "select 'hunter2'::pg_temp.email",
        Constraint,
        "target: 23514 check_violation: value for domain email violates check constraint \
         \"email_check\"",
    ),
    case(
        "insert into parts values ('hunter2')",
        Constraint,
        "target: 23514 check_violation: no partition of relation \"parts\" found for row",
    ),
    case(
        "insert into orders_view values (6, 'hunter2x')",
        Constraint,
        "target: 44000 with_check_option_violation",
    ),
    case(
        "select 'hunter2'::int",
        Data,
        "target: 22P02 invalid_text_representation",
    ),
    case(
        "select 'hunter2'::uuid",
        Data,
        "target: 22P02 invalid_text_representation",
    ),
    case(
        "select '{\"a\": hunter2}'::jsonb",
        Data,
        "target: 22P02 invalid_text_representation",
    ),
    case(
        "select 'hunter2'::date",
        Data,
        "target: 22007 invalid_datetime_format",
    ),
    case(
        "insert into orders values (7, 'hunter2d', 1, 'hunter2')",
        Data,
        "target: 22001 string_data_right_truncation",
    ),
    case(
        "insert into orders values (8, 'hunter2e', 471147)",
        Data,
        "target: 22003 numeric_value_out_of_range",
    ),
    case(
        "select 1 / length('hunter2') / 0",
        Data,
        "target: 22012 division_by_zero",
    ),
    case(
        "insert into reject_plain values ('hunter2')",
        Data,
        "target: P0001 raise_exception",
    ),
    case(
        "insert into reject_check values ('hunter2')",
        Constraint,
        "target: 23514 check_violation: constraint \"v_rule\", table \"rejecting\"",
    ),
    case(
        "insert into reject_privilege values ('hunter2')",
        Permission,
        "target: 42501 insufficient_privilege",
    ),
    case(
        "insert into reject_assert values ('hunter2')",
        Data,
        "target: P0004 assert_failure",
    ),
    case(
        "select 'hunter2' from no_such_table",
        Query,
        "target: 42P01 undefined_table: relation \"no_such_table\" does not exist",
    ),
    case(
        "insert into computed values ('hunter2', 'hunter2')",
        Query,
        "target: 428C9 generated_always: cannot insert a non-DEFAULT value into column \"b\"",
    ),
];

async fn prepared() -> Session {
    let session = cluster::session().await;
    session.batch_execute(SCHEMA).await.unwrap();
    session
}

fn assert_silent(error: &Error) {
    let shown = format!(
        "{error}\n{error:#}\n{error:?}\n{error:#?}\n{}",
        error.message()
    );
    assert!(!shown.contains(VALUE), "{shown}");
    assert!(!shown.contains("4711"), "{shown}");
    assert!(std::error::Error::source(error).is_none());
}

#[tokio::test]
async fn no_value_of_a_row_is_shown() {
    let session = prepared().await;
    for Case {
        statement,
        kind,
        display,
    } in CASES
    {
        let error = session.error(session.batch_execute(statement).await.unwrap_err());
        assert_silent(&error);
        assert_eq!(error.side(), Some(Side::Target));
        assert!(!error.is_transient(), "{error}");
        assert_eq!(error.to_string(), display, "{statement}");
        assert_eq!(error.kind(), kind, "{statement}");
    }
}

#[tokio::test]
async fn an_error_names_what_is_concerned() {
    let session = prepared().await;
    let fail = async |statement| session.error(session.batch_execute(statement).await.unwrap_err());

    let error = fail("insert into orders values (2, 'hunter2')").await;
    assert_eq!(error.sqlstate(), Some("23505"));
    assert_eq!(error.condition(), Some("unique_violation"));
    assert_eq!(error.constraint(), Some("orders_email_key"));
    assert_eq!(error.table(), Some("orders"));
    assert!(
        error
            .schema()
            .is_some_and(|schema| schema.starts_with("pg_temp"))
    );

    let error = fail("insert into orders values (3, null)").await;
    assert_eq!((error.column(), error.constraint()), (Some("email"), None));

    let error = fail("select 'é',\n  form orders").await;
    assert_eq!((error.kind(), error.position()), (Query, Some(15)));
}

#[tokio::test]
async fn a_failed_copy_tells_the_row_and_the_column() {
    let session = prepared().await;
    let sink = session
        .copy_in::<_, Bytes>("copy orders (id, email, amount) from stdin")
        .await;
    let mut sink = Box::pin(sink.unwrap());
    sink.send(Bytes::from("10\ta\t1\n11\tb\thunter2\n"))
        .await
        .unwrap();
    let error = session.error(sink.as_mut().finish().await.unwrap_err());
    assert_silent(&error);
    assert_eq!(
        (error.copy_line(), error.column()),
        (Some(2), Some("amount"))
    );
    assert_eq!(
        error.to_string(),
        "target: 22P02 invalid_text_representation: column \"amount\", row 2 of the COPY"
    );
}

#[tokio::test]
async fn conversions_and_cancellations_are_told_apart() {
    let session = prepared().await;
    let row = session
        .query_one("select 'hunter2'::text", &[])
        .await
        .unwrap();
    let error = Error::from(row.try_get::<_, i32>(0).unwrap_err());
    assert_silent(&error);
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("i32"), "{error}");

    let limited = "set statement_timeout = '10ms'; select pg_sleep(5), 'hunter2'";
    let error = session.error(session.batch_execute(limited).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::QueryCanceled);

    let other = cluster::session().await;
    other
        .batch_execute("begin; select pg_advisory_xact_lock(1)")
        .await
        .unwrap();
    let locked = "set lock_timeout = '10ms'; select pg_advisory_xact_lock(1)";
    session
        .batch_execute("set statement_timeout = 0")
        .await
        .unwrap();
    let error = session.error(session.batch_execute(locked).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::LockNotAvailable);
    assert!(error.is_transient());
}
