#!/bin/sh
# Runs the two images once, with podman and without a network: founds a federation of three members inside a volume, starts
# the coordinator and the members in one network namespace that has only loopback, waits for a completed round, and stops
# everything. Needs podman and the images `sordino-coordinator` and `sordino-member` (see docs/containers.md). For a trial:
# one volume holds the keys of every party.
set -eu
NAME=sordino-trial
F=/var/lib/sordino/federation
# What the compose file asks for too: no capability, read-only root, no new privileges, memory bounded.
HARDENED="--read-only --cap-drop all --security-opt no-new-privileges --memory 3g --pids-limit 256 --tmpfs /tmp:size=256m"

cleanup() { podman rm --force --time 30 $NAME-hub $NAME-000 $NAME-001 $NAME-002 >/dev/null 2>&1 || true; }
trap 'cleanup; podman volume rm --force $NAME >/dev/null' EXIT
cleanup
podman volume create $NAME >/dev/null

# in_image ENTRYPOINT ARGUMENT...: one command in a fresh container on the volume.
in_image() {
    entry=$1
    shift
    # shellcheck disable=SC2086 # HARDENED is a list of options
    podman run --rm --network none $HARDENED --volume $NAME:/var/lib/sordino --entrypoint "$entry" sordino-coordinator "$@"
}

in_image python3 -m sordino_platform.demo.virtual $F --members 3 --rounds 1
in_image sed -i "1i listen = \"127.0.0.1:9443\"\nmetrics_port = 9464" $F/coordinator/coordinator.toml
for member in 000 001 002; do
    in_image sed -i 's/"flower:0"/"127.0.0.1:9443"/' $F/members/member-$member/member.toml
done

# shellcheck disable=SC2086
podman run --detach --name $NAME-hub --network none $HARDENED --volume $NAME:/var/lib/sordino \
    sordino-coordinator coordinator up --folder $F/coordinator >/dev/null
for member in 000 001 002; do
    # shellcheck disable=SC2086
    podman run --detach --name $NAME-$member --network container:$NAME-hub $HARDENED --volume $NAME:/var/lib/sordino \
        --env OMP_NUM_THREADS=1 sordino-member client up --folder $F/members/member-$member >/dev/null
done
code=$(podman wait $NAME-hub)
in_image sordino coordinator rounds --folder $F/coordinator
in_image sordino coordinator audit verify --folder $F/coordinator
in_image id
echo "the coordinator ended with exit code $code"
exit "$code"
