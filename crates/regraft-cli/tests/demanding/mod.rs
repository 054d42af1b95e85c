//! Targets that demand more than the source can give: an order for each offer.

use regraft_testkit::{ProjectFolder, manifest};

const SOURCE: &str = "
create table doctor (id integer primary key);
create table instruction (id integer primary key, doctor_id integer not null, submitted_at timestamptz);
create table offer (id integer primary key, doctor_id integer, price numeric(10, 2) not null);
create table discount (id integer primary key, offer_id integer not null, percent numeric not null);
";

/// The sizes are those of the old attempt: of 788 offers 370 are of doctors who never ordered, 24 of
/// doctors who don't exist and one is nobody's; 16 of 151 discounts are on such offers.
const DATA: &str = "
insert into doctor select generate_series(1, 200);
insert into instruction select i, 1 + i % 100, timestamptz '2024-01-01Z' + make_interval(hours => i)
from generate_series(1, 500) i;
insert into offer
select i, case when i <= 393 then 1 + i % 100 when i <= 763 then 101 + i % 100 when i <= 787 then 9000 + i end, i
from generate_series(1, 788) i;
insert into discount select i, case when i <= 16 then 400 + i else i end, 13 from generate_series(1, 151) i;
";

const TARGET: &str = "
create table orders (id uuid primary key, legacy_id integer unique);
create table offers (id uuid primary key, order_id uuid not null references orders, price numeric(10, 2), legacy_id integer unique);
create table discounts (id uuid primary key, offer_id uuid not null references offers, percent numeric, legacy_id integer unique);
";

const OFFERS: &str = r#"
[source]
from = """
offer o
left join lateral (
    select i.id from instruction i where i.doctor_id = o.doctor_id
    order by i.submitted_at desc, i.id desc limit 1
) latest on true"""
key = "o.id"
[target]
table = "offers"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
order_id = { ref = "orders", from = "latest.id" }
price = "o.price"
"#;

/// A mapping of one table.
fn entity(from: &str, table: &str, columns: &str) -> String {
    format!(
        "[source]\nfrom = \"{from} t\"\nkey = \"t.id\"\n[target]\ntable = \"{table}\"\n\
         key = {{ column = \"id\", strategy = \"uuid_v5\" }}\nlegacy = \"legacy_id\"\n[columns]\n{columns}\n"
    )
}

/// Offers that need an order: each gets its doctor's latest one, as the old scripts did.
pub(crate) fn price_lists() -> ProjectFolder {
    let discounts =
        "offer_id = { ref = \"offers\", from = \"t.offer_id\" }\npercent = \"t.percent\"";
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("price-lists", "100%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/orders.toml", &entity("instruction", "orders", "")),
        ("entities/offers.toml", OFFERS),
        (
            "entities/discounts.toml",
            &entity("discount", "discounts", discounts),
        ),
    ])
}

/// Changes the model: an offer is a price, and no order is asked for.
pub(crate) fn without_order(project: &ProjectFolder) {
    let relaxed = TARGET.replace("order_id uuid not null references orders, ", "");
    assert_ne!(relaxed, TARGET);
    project.write("target/schema.sql", &relaxed);
    project.write(
        "entities/offers.toml",
        &entity("offer", "offers", "price = \"t.price\""),
    );
}

/// Makes a copy of `dispatch` demand the latest order of an offer's doctor, as the old target did.
pub(crate) fn demand_orders(project: &ProjectFolder) {
    change(
        project,
        "target/money.sql",
        "create table offers (\n    id              uuid primary key default gen_random_uuid(),\n",
        "create table offers (\n    id              uuid primary key default gen_random_uuid(),\n    order_id        uuid not null references orders (id),\n",
    );
    change(
        project,
        "entities/offers.toml",
        "from = \"dispatch_offer o\"",
        "from = '''\ndispatch_offer o\nleft join lateral (\n    select i.id from dispatch_instruction i join dispatch_patient p on p.id = i.patient_id\n    where p.doctor_id = o.doctor_id and not i.deleted\n    order by i.submitted_at desc nulls last, i.id desc limit 1\n) latest on true'''",
    );
    change(
        project,
        "entities/offers.toml",
        "[columns]\n",
        "[columns]\norder_id = { ref = \"orders\", from = \"latest.id\" }\n",
    );
}

fn change(project: &ProjectFolder, path: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(project.path().join(path)).expect("the file is there");
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed, "{path} has changed: {from}");
    project.write(path, &changed);
}
