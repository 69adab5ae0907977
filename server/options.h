/*
 * options.h - pawld's flags and environment, with etcd's names where the
 * meaning is the same.
 */
#ifndef PAWL_OPTIONS_H
#define PAWL_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "server/applier.h"
#include "server/logger.h"

struct options {
    /* As given, or the default. Strings from malloc. */
    char *name;
    char *data_dir;
    char *listen_client_urls, *advertise_client_urls;
    char *listen_peer_urls, *initial_advertise_peer_urls;
    char *initial_cluster, *initial_cluster_state, *initial_cluster_token;
    char *heartbeat_interval, *election_timeout; /* ms */
    char *max_request_bytes;
    char *snapshot_catchup_entries;
    char *snapshot_bytes_per_second;
    char *log_level;

    /* Derived. */
    unsigned heartbeat_ms, election_ms;
    size_t request_bytes_max;
    size_t log_keep_entries;
    uint64_t snapshot_rate; /* bytes a second */
    enum log_level level;
    bool cluster_given;      /* --initial-cluster was set by the user */
    struct member *founders; /* of --initial-cluster, ascending by id */
    size_t n_founders;
    uint64_t cluster_id;
    uint64_t member_id; /* ours, by --name */
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_BAD };

/*
 * Flags win over PAWL_… and these over ETCD_… in the environment. DONE: --help
 * or --version was answered on standard output. BAD: standard error got one
 * line that says what is wrong and with which flag. Release in any case.
 */
enum options_result options_parse(struct options *o, int argc, char **argv);
void options_release(struct options *o);

#endif
