\set held :accounts + :n
\set income 2 * :accounts + :revenue
SELECT pgledger_create_transfer('pgla_' || lpad(:n::text, 26, '0'), 'pgla_' || lpad(:held::text, 26, '0'), 1)::text;
SELECT pgledger_create_transfer('pgla_' || lpad(:held::text, 26, '0'), 'pgla_' || lpad(:income::text, 26, '0'), 1)::text;
