-- Money: payments, card transactions, price lists and discounts.
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

create trigger payments_updated_at before update on payments
    for each row execute function update_updated_at_column();
create trigger operations_updated_at before update on operations
    for each row execute function update_updated_at_column();
