#!/bin/sh
# Starts Prometheus with the key that /metrics asks for: Prometheus reads it from a file alone, so the first of
# PENSTOCK_API_KEY's keys is written to one, in memory. Without a key the file is empty, and the server asks for none.
set -euf
key=
IFS=,
for part in ${PENSTOCK_API_KEY-}; do
    if [ -n "$part" ]; then
        key=$part
        break
    fi
done
unset IFS PENSTOCK_API_KEY
umask 077
printf %s "$key" >/run/penstock/key
exec prometheus "$@"
