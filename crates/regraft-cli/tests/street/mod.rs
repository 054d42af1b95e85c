//! Shops that are one where their street is, and a sale of each.

use regraft_testkit::{ProjectFolder, manifest};

const SOURCE: &str = "
create table town (id integer primary key);
create table shop (id integer primary key, name text, street text, town integer);
create table sale (id integer primary key, shop integer);
";

/// Shop 2 is the same as 1. 4 is the same as 3, which has no name.
const DATA: &str = "
insert into town values (1);
insert into shop values (1, 'A', 'x', null), (2, 'B', 'x', 1), (3, null, 'y', null), (4, 'D', 'y', null), (5, 'E', 'z', 1);
insert into sale select i, i from generate_series(1, 5) i;
";

const TARGET: &str = "
create table towns (id uuid primary key, legacy_id integer unique);
create table shops (id uuid primary key, name text not null, town_id uuid references towns, legacy_id integer unique);
create table sales (id uuid primary key, shop_id uuid not null references shops, legacy_id integer unique);
";

const TOWNS: &str = r#"
[source]
from = "town t"
key = "t.id"
[target]
table = "towns"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
"#;

const SHOPS: &str = r#"
[source]
from = "shop s"
key = "s.id"
[source.merge]
name = "same-street"
by = ["s.street"]
[target]
table = "shops"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "s.name"
town_id = { ref = "towns", from = "s.town" }
"#;

const SALES: &str = r#"
[source]
from = "sale s"
key = "s.id"
[target]
table = "sales"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
shop_id = { ref = "shops", from = "s.shop" }
"#;

/// The project.
pub(crate) fn street() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("street", "100%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/towns.toml", TOWNS),
        ("entities/shops.toml", SHOPS),
        ("entities/sales.toml", SALES),
    ])
}
