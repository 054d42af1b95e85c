-- Money: payments, card transactions, price lists and discounts; and the stock, the storage
-- and the settings of the laboratory.
--
-- Where the evidence on the old target conflicts, one design was chosen:
--
--   * payments has no `amount`: one script filled it with total_price, another with
--     paid_price. Each of the source's amounts has a column of its own, named for what it is.
--   * operations belong to the payment they were made for. In the old target they had a
--     mandatory case, and all 3,720 of them got the first case of the table.
--   * no table adds up what another has: an operation is a part of its payment, not more money.
--
-- All amounts are exact decimals in the currency of the office; the legacy system names no
-- currency, and none is assumed.

create type payment_status as enum ('pending', 'completed', 'failed', 'cancelled', 'refunded');
create type operation_type as enum ('payment', 'refund');
create type discount_type as enum ('percentage', 'fixed');

create table payments (
    id                uuid primary key default gen_random_uuid(),
    -- NULL: the legacy system knows payments that no order belongs to.
    order_id          uuid references orders (id),
    patient_id        uuid references patients (id),
    doctor_id         uuid references doctors (id),
    office_id         uuid references offices (id),
    status            payment_status not null,
    -- How it was paid and in which currency: for the application, the source does not tell.
    payment_method    text,
    currency          text,
    is_free           boolean not null default false,
    netsuite          boolean not null default false,
    subtotal_amount   numeric(10, 2) not null,
    tax_amount        numeric(10, 2) not null,
    total_amount      numeric(10, 2) not null,
    paid_amount       numeric(10, 2) not null,
    additional_amount numeric(10, 2) not null,
    credit_used       numeric(10, 2) not null,
    custom_amount     numeric(10, 2),
    -- A fraction: 0.1025 is ten and a quarter percent.
    tax_rate          numeric(8, 6),
    installments      jsonb,
    paid_at           timestamptz,
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_payment_id integer unique,
    constraint payment_method_known
        check (payment_method in ('card', 'check', 'insurance', 'cash', 'other')),
    constraint payment_tax_rate_is_fraction check (tax_rate between 0 and 1),
    constraint installments_is_array check (jsonb_typeof(installments) = 'array')
);
create index payments_order_id_idx on payments (order_id);
create index payments_patient_id_idx on payments (patient_id);
create index payments_doctor_id_idx on payments (doctor_id);
create index payments_office_id_idx on payments (office_id);

-- A transaction of a card, nothing clinical. Of the card, its brand and the last four digits.
create table operations (
    id                  uuid primary key default gen_random_uuid(),
    payment_id          uuid not null references payments (id),
    operation_type      operation_type not null,
    amount              numeric(10, 2) not null,
    made_at             timestamptz not null,
    attempts            integer,
    square_order_id     text,
    square_payment_id   text,
    square_refund_id    text,
    card_brand          text,
    card_last_four      text,
    is_office_card      boolean not null default false,
    metadata            jsonb not null default '{}',
    created_at          timestamptz default now(),
    updated_at          timestamptz not null default now(),
    legacy_operation_id integer unique,
    constraint card_last_four_digits check (card_last_four ~ '^[0-9]{4}$')
);
create index operations_payment_id_idx on operations (payment_id);

-- Goods that were bought. The legacy table is empty, and always was: the old target filled
-- this one with payments, which are no purchases.
create table purchases (
    id                 uuid primary key default gen_random_uuid(),
    product_id         uuid not null references products (id),
    quantity           integer not null,
    price              numeric(10, 2) not null,
    purchased_at       timestamptz not null,
    metadata           jsonb not null default '{}',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_purchase_id integer unique,
    constraint quantity_is_positive check (quantity > 0)
);
create index purchases_product_id_idx on purchases (product_id);

-- A doctor's price list: what a product costs this doctor. The old target demanded an order,
-- which no offer has: 395 of 788 could not be moved, and the rest were given the doctor's
-- last order and called accepted. There is no order_id here, no sum and no acceptance.
create table offers (
    id              uuid primary key default gen_random_uuid(),
    doctor_id       uuid not null references doctors (id),
    product_id      uuid not null references products (id),
    price_both      numeric(10, 2) not null,
    price_upper     numeric(10, 2) not null,
    price_lower     numeric(10, 2) not null,
    metadata        jsonb not null default '{}',
    created_at      timestamptz default now(),
    updated_at      timestamptz not null default now(),
    legacy_offer_id integer unique,
    constraint offer_prices_not_negative check (least(price_both, price_upper, price_lower) >= 0)
);
create index offers_doctor_id_idx on offers (doctor_id);
create index offers_product_id_idx on offers (product_id);

-- A discount is one on an offer, by reference; in the old target the offer was a line in metadata.
create table discounts (
    id                 uuid primary key default gen_random_uuid(),
    offer_id           uuid not null references offers (id),
    discount_type      discount_type not null,
    percentage         numeric(5, 2),
    fixed_amount       numeric(10, 2),
    reason             text,
    applies_to_total   boolean not null default false,
    valid_from         timestamptz,
    valid_until        timestamptz,
    max_uses           integer,
    current_uses       integer,
    metadata           jsonb not null default '{}',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_discount_id integer unique,
    constraint percentage_in_range check (percentage between 0 and 100),
    constraint discount_has_its_value check (
        case discount_type when 'percentage' then percentage is not null else fixed_amount is not null end)
);
create index discounts_offer_id_idx on discounts (offer_id);

create table ware (
    id             uuid primary key default gen_random_uuid(),
    name           text not null,
    code           text,
    quantity       integer not null,
    product_id     uuid references products (id),
    metadata       jsonb not null default '{}',
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_ware_id integer unique
);
create index ware_product_id_idx on ware (product_id);

create table storages (
    id                uuid primary key default gen_random_uuid(),
    name              text not null,
    path              text,
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_storage_id integer unique
);

-- No column for a token, and none where one would fit: secrets belong to a secret store.
create table global_settings (
    id                       uuid primary key default gen_random_uuid(),
    name                     text not null,
    created_at               timestamptz default now(),
    updated_at               timestamptz not null default now(),
    legacy_global_setting_id integer unique
);

create trigger payments_updated_at before update on payments
    for each row execute function update_updated_at_column();
create trigger operations_updated_at before update on operations
    for each row execute function update_updated_at_column();
create trigger purchases_updated_at before update on purchases
    for each row execute function update_updated_at_column();
create trigger offers_updated_at before update on offers
    for each row execute function update_updated_at_column();
create trigger discounts_updated_at before update on discounts
    for each row execute function update_updated_at_column();
create trigger ware_updated_at before update on ware
    for each row execute function update_updated_at_column();
create trigger storages_updated_at before update on storages
    for each row execute function update_updated_at_column();
create trigger global_settings_updated_at before update on global_settings
    for each row execute function update_updated_at_column();
