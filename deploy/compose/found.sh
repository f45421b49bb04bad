#!/bin/sh
# The ceremony for compose.yml, once: every key is made in its own volume and stays there; what passes between the
# containers is public, but for the enrolment tokens. For a trial: one machine then holds the volumes of every party.
set -eu
cd "$(dirname "$0")"
: "${COMPOSE:=docker compose}"
STATE=/var/lib/sordino
FEDERATION=${FEDERATION:-orchard}
MEMBERS="alder birch cedar"

# on SERVICE ARGUMENT...: one sordino command in a fresh container of that service, with its volume and nothing else's.
on() {
    service=$1
    shift
    # shellcheck disable=SC2086 # COMPOSE may be two words
    $COMPOSE run --rm --no-deps -T "$service" "$@"
}

# put SERVICE NAME: standard input as a file in the service's volume, readable by its owner only.
put() {
    # shellcheck disable=SC2086
    $COMPOSE run --rm --no-deps -T --entrypoint sh "$1" -c "umask 077 && cat > $STATE/$2"
}

# enrol SERVICE FOLDER NAME ORGANISATION [OPTION...]: token, key, request, carried to the root.
enrol() {
    service=$1 folder=$2 name=$3 organisation=$4
    shift 4
    role=
    if [ "$service" = coordinator ]; then role=--coordinator; fi
    # shellcheck disable=SC2086 # role is one word or none
    on root identity invite "$STATE/root" --name "$name" --organisation "$organisation" $role < /dev/null | put "$service" token
    # shellcheck disable=SC2086
    on "$service" identity new "$STATE/$folder" --federation "$FEDERATION" --name "$name" \
        --organisation "$organisation" $role "$@" < /dev/null
    on "$service" identity request "$STATE/$folder" --token-file "$STATE/token" < /dev/null | put root "$name.request.json"
    on root charter add "$STATE/root" "$STATE/$name.request.json" < /dev/null
}

# admit SERVICE FOLDER NAME: certificate and charter, carried back. Installed under the root's fingerprint.
admit() {
    on root identity approve "$STATE/root" "$STATE/$3.request.json" < /dev/null | put "$1" reply.json
    on "$1" identity install "$STATE/$2" "$STATE/reply.json" --root "$fingerprint" < /dev/null
}

on root charter new "$STATE/root" --federation "$FEDERATION" --cohort 3 --organisations 3 < /dev/null
enrol coordinator coordinator hub "The hub" --host coordinator
for member in $MEMBERS; do
    enrol "$member" member "$member" "Company $member"
done
on root charter sign "$STATE/root" < /dev/null
fingerprint=$(on root charter show "$STATE/root" --json < /dev/null | sed -n 's/.*"root": "\([a-z0-9-]*\)".*/\1/p')
admit coordinator coordinator hub
for member in $MEMBERS; do
    admit "$member" member "$member"
    on "$member" client join --folder "$STATE/member" --coordinator coordinator:9443 --repo /repository < /dev/null
done
# No public code is mounted into the container: whoever runs this for more than a trial mounts some and names it in
# `heldout` of coordinator.toml instead.
on coordinator coordinator new --folder "$STATE/coordinator" --listen 0.0.0.0:9443 \
    --release-without-any-heldout-measurement < /dev/null
# A fixed port, so that Prometheus and the health check find it.
# shellcheck disable=SC2086
$COMPOSE run --rm --no-deps -T --entrypoint sed coordinator \
    -i 's/^metrics_port = .*/metrics_port = 9464/' "$STATE/coordinator/coordinator.toml" < /dev/null
echo "founded $FEDERATION; its root is $fingerprint"
