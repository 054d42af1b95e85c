-- What people and the application tell each other: messages, comments, notifications.
--
-- Where the evidence on the old target conflicts, one design was chosen:
--
--   * messages: of the two designs, neither. What a message is about is one pair,
--     target_type and target_id; a patient and a profile are told apart by two computed
--     columns that carry the foreign keys.
--   * comments hold a text once. treatment_discussions, doctor_notes and case_messages say
--     where it belongs; in the old target case_messages held copies, three times over.
--   * subject, priority and urgency have no source: keyword guesses filled them. They are
--     not here.

create table messages (
    id               uuid primary key default gen_random_uuid(),
    message_type     text not null,
    target_type      text not null,
    target_id        uuid not null,
    patient_id       uuid references patients (id)
                     generated always as (case when target_type = 'patient' then target_id end) stored,
    profile_id       uuid references profiles (id)
                     generated always as (case when target_type = 'profile' then target_id end) stored,
    sender_id        uuid references profiles (id),
    content          text not null,
    is_public        boolean not null default false,
    metadata         jsonb not null default '{}',
    created_at       timestamptz default now(),
    updated_at       timestamptz not null default now(),
    legacy_type      smallint,
    legacy_record_id integer unique,
    constraint message_type_known
        check (message_type in ('support', 'clinical_note', 'notification', 'status_update', 'unclassified')),
    constraint message_target_type_known check (target_type in ('patient', 'profile'))
);
create index messages_patient_id_idx on messages (patient_id);
create index messages_profile_id_idx on messages (profile_id);
create index messages_sender_id_idx on messages (sender_id);
create index messages_target_id_idx on messages (target_id);

create table message_attachments (
    id                   uuid primary key default gen_random_uuid(),
    message_id           uuid not null references messages (id),
    file_id              uuid not null references files (id),
    metadata             jsonb not null default '{}',
    created_at           timestamptz default now(),
    legacy_link_id       bigint unique,
    legacy_attachment_id integer unique,
    unique (message_id, file_id)
);
create index message_attachments_file_id_idx on message_attachments (file_id);

create type comment_type_enum as enum
    ('treatment_discussion', 'doctor_note', 'task_note', 'notification_context', 'record_annotation');

-- The comments on treatment plans and the notes on doctors: two legacy tables, two columns
-- for their ids, of which one is set.
create table comments (
    id                uuid primary key default gen_random_uuid(),
    comment_type      comment_type_enum not null,
    content           text not null,
    author_id         uuid references profiles (id),
    parent_comment_id uuid references comments (id),
    metadata          jsonb not null default '{}',
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_comment_id integer unique,
    legacy_note_id    integer unique
);
create index comments_author_id_idx on comments (author_id);
create index comments_parent_comment_id_idx on comments (parent_comment_id);

create table doctor_notes (
    id             uuid primary key default gen_random_uuid(),
    doctor_id      uuid not null references doctors (id),
    comment_id     uuid not null unique references comments (id),
    metadata       jsonb not null default '{}',
    created_at     timestamptz default now(),
    updated_at     timestamptz not null default now(),
    legacy_note_id integer unique
);
create index doctor_notes_doctor_id_idx on doctor_notes (doctor_id);

-- Which comment is on which plan. Shown to patients only where somebody said so: the old
-- target showed all of them.
create table treatment_discussions (
    id                    uuid primary key default gen_random_uuid(),
    treatment_plan_id     uuid not null references treatment_plans (id),
    comment_id            uuid not null unique references comments (id),
    is_visible_to_patient boolean not null default false,
    metadata              jsonb not null default '{}',
    created_at            timestamptz default now(),
    updated_at            timestamptz not null default now(),
    legacy_comment_id     integer unique
);
create index treatment_discussions_treatment_plan_id_idx on treatment_discussions (treatment_plan_id);

-- Which comment is in which case. The text, its author and its time are the comment's.
-- message_type is for people to fill: the old one was guessed from words.
create table case_messages (
    id                uuid primary key default gen_random_uuid(),
    case_id           uuid not null references cases (id),
    comment_id        uuid not null unique references comments (id),
    message_type      text,
    sent_at           timestamptz not null,
    created_at        timestamptz default now(),
    updated_at        timestamptz not null default now(),
    legacy_comment_id integer unique,
    constraint case_message_type_known
        check (message_type in ('clinical_note', 'doctor_response', 'patient_question', 'treatment_update'))
);
create index case_messages_case_id_idx on case_messages (case_id);

-- Which message is for which team, and who else may see it. The text is the message's.
-- communication_type is for people to fill: the legacy code has one meaning, in messages.
create table team_communications (
    id                 uuid primary key default gen_random_uuid(),
    message_id         uuid not null unique references messages (id),
    team_id            uuid not null references teams (id),
    communication_type text,
    visibility         text not null default 'team',
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_record_id   integer unique,
    constraint communication_type_known
        check (communication_type in ('team_announcement', 'status_update', 'production_note', 'quality_check')),
    constraint visibility_known check (visibility in ('organization', 'team'))
);
create index team_communications_team_id_idx on team_communications (team_id);

-- What happened to a patient, and when: derived, each row with a time from the source. What it
-- tells of is a reference.
create table patient_events (
    id               uuid primary key default gen_random_uuid(),
    patient_id       uuid not null references patients (id),
    order_id         uuid references orders (id),
    payment_id       uuid references payments (id),
    order_state_id   uuid references order_states (id),
    event_type       text not null,
    description      text,
    occurred_at      timestamptz not null,
    created_at       timestamptz default now(),
    legacy_event_key text unique,
    constraint event_type_known
        check (event_type in ('patient_registered', 'order_submitted', 'payment_received', 'order_state_changed'))
);
create index patient_events_patient_id_idx on patient_events (patient_id, occurred_at);
create index patient_events_order_id_idx on patient_events (order_id);
create index patient_events_payment_id_idx on patient_events (payment_id) where payment_id is not null;
create index patient_events_order_state_id_idx on patient_events (order_state_id) where order_state_id is not null;

-- What a customer wrote, for people to classify: the three columns without a rule in
-- entities/customer_feedback.toml are theirs.
create table customer_feedback (
    id                 uuid primary key default gen_random_uuid(),
    doctor_id          uuid not null references doctors (id),
    comment_id         uuid unique references comments (id),
    message_id         uuid unique references messages (id),
    feedback_type      text,
    severity           text,
    status             text,
    given_at           timestamptz not null,
    created_at         timestamptz default now(),
    updated_at         timestamptz not null default now(),
    legacy_feedback_id bigint unique,
    constraint feedback_is_one_text check (num_nonnulls(comment_id, message_id) = 1),
    constraint feedback_type_known
        check (feedback_type in ('complaint', 'quality_issue', 'suggestion', 'compliment', 'general_feedback')),
    constraint severity_known check (severity in ('critical', 'high', 'medium', 'low'))
);
create index customer_feedback_doctor_id_idx on customer_feedback (doctor_id);

-- Whose turn it is: the tasks that are to be done, by user. What is to be done is the task's.
create table user_tasks (
    id             uuid primary key default gen_random_uuid(),
    task_id        uuid not null unique references tasks (id),
    user_id        uuid not null references profiles (id),
    created_at     timestamptz default now(),
    legacy_task_id integer unique
);
create index user_tasks_user_id_idx on user_tasks (user_id);

-- What the application sent. item_id is a row of the table that item_type names, of
-- whatever kind, and has no foreign key: a message that was sent is history, and outlives it.
create table system_messages (
    id                     uuid primary key default gen_random_uuid(),
    message_type           text not null,
    message_code           text,
    message_data           jsonb,
    -- The legacy text was no JSON, and is kept under this one name.
    has_broken_data        boolean generated always as (message_data ? 'unparsed') stored,
    sender                 text,
    recipient_id           uuid references profiles (id),
    item_type              text,
    item_id                uuid,
    is_read                boolean not null default false,
    created_at             timestamptz default now(),
    updated_at             timestamptz not null default now(),
    legacy_item_id         integer,
    legacy_notification_id integer unique,
    constraint system_message_type_known
        check (message_type in ('info', 'order_update', 'shipment_update', 'payment_update', 'case_update',
                                'reminder', 'welcome', 'status_update', 'notification'))
);
create index system_messages_recipient_id_idx on system_messages (recipient_id);
create index system_messages_item_id_idx on system_messages (item_id);

-- The audit trail. Both items are rows of whatever table their type names, as above.
create table user_actions (
    id               uuid primary key default gen_random_uuid(),
    user_id          uuid references profiles (id),
    action           text not null,
    action_at        timestamptz not null,
    item_type        text,
    item_id          uuid,
    owner_type       text,
    owner_id         uuid,
    action_data      jsonb,
    has_broken_data  boolean generated always as (action_data ? 'unparsed') stored,
    created_at       timestamptz default now(),
    legacy_item_id   integer,
    legacy_owner_id  integer,
    legacy_action_id integer unique
);
create index user_actions_user_id_idx on user_actions (user_id);
create index user_actions_item_id_idx on user_actions (item_id);
create index user_actions_owner_id_idx on user_actions (owner_id);

create trigger messages_updated_at before update on messages
    for each row execute function update_updated_at_column();
create trigger comments_updated_at before update on comments
    for each row execute function update_updated_at_column();
create trigger doctor_notes_updated_at before update on doctor_notes
    for each row execute function update_updated_at_column();
create trigger treatment_discussions_updated_at before update on treatment_discussions
    for each row execute function update_updated_at_column();
create trigger case_messages_updated_at before update on case_messages
    for each row execute function update_updated_at_column();
create trigger team_communications_updated_at before update on team_communications
    for each row execute function update_updated_at_column();
create trigger customer_feedback_updated_at before update on customer_feedback
    for each row execute function update_updated_at_column();
create trigger system_messages_updated_at before update on system_messages
    for each row execute function update_updated_at_column();
