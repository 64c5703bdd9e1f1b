#!/bin/sh
# Run once by the image, when it has made the database: an owner for it who is no superuser, and one who only looks.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=owner="$DATABASE_PASSWORD" --set=exporter="$EXPORTER_PASSWORD" \
  --username="${POSTGRES_USER:-postgres}" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE streamgauge LOGIN PASSWORD :'owner';
CREATE ROLE exporter LOGIN PASSWORD :'exporter' IN ROLE pg_monitor;
SELECT format('ALTER DATABASE %I OWNER TO streamgauge', current_database()) \gexec
SQL
