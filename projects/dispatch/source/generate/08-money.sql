-- The generator, part 8: payments, card transactions, price lists and discounts, without a fault.

set search_path = regraft_generator, public;

insert into dispatch_payment
    (id, made_at, free, canceled, paid, netsuite, tax_rate, tax_value, paid_price, subtotal_price,
     total_price, additional_price, used_credit, custom_price, installments, instruction_id, order_id,
     doctor_id, office_id)
select p.id, case when p.paid then p.at end, p.free, p.canceled, p.paid, roll(p.id, 440) < 0.02,
       p.rate, p.tax, case when p.paid then p.subtotal + p.tax - p.credit else 0.00 end,
       p.subtotal, p.subtotal + p.tax,
       case when roll(p.id, 441) < 0.05 then 25.00 else 0.00 end, p.credit,
       case when roll(p.id, 442) < 0.1 then p.subtotal end,
       case when roll(p.id, 443) < 0.93 or p.free then '[]'
            else format('[{"part": 1, "price": "%s"}, {"part": 2, "price": "%s"}]',
                        round(p.subtotal / 2, 2), p.subtotal - round(p.subtotal / 2, 2)) end,
       p.instruction_id,
       case when roll(p.id, 444) < 0.1 then
           (select array_agg(id order by id) from dispatch_order)[1 + pick(p.id, 445, many(3100)::integer)] end,
       p.doctor_id, p.office_id
from (
    select i.id, o.instruction_id, u.id as doctor_id, t.office_id, s.free, s.canceled,
           not s.canceled and roll(i.id, 446) < 0.995 as paid, s.subtotal, s.rate,
           round(s.subtotal * s.rate / 100, 2) as tax,
           case when roll(i.id, 447) < 0.04 then round(s.subtotal * 0.10, 2) else 0.00 end as credit,
           working_time(i.place::float8 / many(17297), i.id, 448) as at
    from sparse_ids(many(17297), 0.97, 450) i
    cross join lateral (
        select (select live from order_id)[1 + ((i.place - 1) * (select cardinality(live) from order_id) / many(17297))::integer]
    ) o (instruction_id)
    join dispatch_instruction d on d.id = o.instruction_id
    left join dispatch_patient t on t.id = d.patient_id
    left join auth_user u on u.id = t.doctor_id
    cross join lateral (
        select roll(i.id, 451) < 0.05 as free, roll(i.id, 452) < 0.008 as canceled,
               case when roll(i.id, 451) < 0.05 then 0.00 else (10 + pick(i.id, 453, 90)) * 5.00 end as subtotal,
               ('{0,0,0,7.25,8.25,10}'::numeric[])[1 + pick(i.id, 454, 6)] as rate
    ) s
) p
order by p.id;

insert into dispatch_operation
    (id, "type", made_at, price, sq_order_id, sq_payment_id, sq_refund_id, card_brand, card_bin, card_last,
     office_card, payment_id, attempts)
select i.id, case when roll(i.id, 460) < 0.97 then 1 else 2 end,
       coalesce(p.made_at, timestamptz '2025-01-01 12:00+00'), p.total_price,
       'SO' || upper(left(md5('so' || i.id), 20)), 'SP' || upper(left(md5('sp' || i.id), 20)),
       case when roll(i.id, 460) < 0.97 then '' else 'SR' || upper(left(md5('sr' || i.id), 20)) end,
       one_of(i.id, 461, '{VISA,MASTERCARD,AMERICAN_EXPRESS,JCB}'), '000000', lpad(pick(i.id, 462, 100)::text, 4, '0'),
       roll(i.id, 463) < 0.2, p.id, 1 + pick(i.id, 464, 3)
from sparse_ids(many(3720), 0.97, 465) i
join dispatch_payment p on p.id = (select array_agg(id order by id) from dispatch_payment)[
    1 + ((i.place - 1) * many(17297) / many(3720))::integer]
order by i.id;

-- Many of these doctors never ordered anything.
insert into dispatch_offer (id, price_both, price_upper, price_lower, doctor_id, product_id)
select i.id, 5.00 * pick(i.id, 470, 400), 5.00 * pick(i.id, 471, 300), 5.00 * pick(i.id, 472, 300),
       r.doctors[1 + pick(i.id, 473, cardinality(r.doctors))],
       r.products[1 + pick(i.id, 474, cardinality(r.products))]
from sparse_ids(many(788), 0.95, 475) i, reference_id r
order by i.id;

insert into dispatch_discount (id, percent, reason, count, "start", finish, total, used, offer_id)
select i.id, 13 + pick(i.id, 480, 88), one_of(i.id, 481, '{"",New customer,Compensation,Fair 2024,紹介}'),
       case when roll(i.id, 482) < 0.5 then 1 + pick(i.id, 483, 10) end,
       case when roll(i.id, 484) < 0.6 then working_time(0.4 + 0.5 * roll(i.id, 485), i.id, 486) end,
       case when roll(i.id, 484) < 0.3 then working_time(0.95, i.id, 488) end,
       roll(i.id, 490) < 0.3, case when roll(i.id, 491) < 0.5 then pick(i.id, 492, 4) end,
       (select array_agg(id order by id) from dispatch_offer)[1 + pick(i.id, 493, many(788)::integer)]
from sparse_ids(many(151), 0.95, 494) i
order by i.id;

reset search_path;
