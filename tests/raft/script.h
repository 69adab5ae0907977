/*
 * script.h - conversations among servers, written down.
 *
 * A script is blocks of commands, each followed by ---- and the output that is
 * expected of it. # begins a comment line. A block whose commands say nothing
 * ends with the status of all.
 *
 *     nodes N [learners=M] [spares=K] [prevote|plain] [no-check-quorum]
 * [seed=S] [append=BYTES] [window=N] [bytes=BYTES] [uncommitted=BYTES] elect ID
 * tick it until it leads, rivals unheard tick ID K | tick all K settle deliver,
 * sync and work until nothing moves work ID               only: hand out what
 * it has ready propose ID TEXT read ID               ask; `reads ID` says what
 * came of it transfer ID>ID compact ID INDEX members ID 1,2,3l     propose
 * these members; l: a learner members [ID]          those in its log: + will
 * vote, - leaves, d demoted snapshots hold | snapshots release | snapshots lose
 *                           settle leaves them; those under way fail
 *     cut ID>ID | cut ID | cut ID-ID | heal
 *     hold TYPE [ID] | release TYPE    settle leaves those packets [from ID]
 *     drop TYPE | undrop TYPE          the network loses them
 *     deliver TYPE ID>ID | again TYPE ID>ID | lose TYPE ID>ID
 *                           the first such packet: arrives, arrives and
 *                           stays, is lost. `all` as TYPE: all packets
 *     crash ID [KEPT]       unsynced writes are lost, but for KEPT
 *     restart ID
 *     disk hold ID | disk release ID | disk sync ID N
 *     status [ID] | log [ID] | packets | reads ID | progress ID
 */
#ifndef TESTS_RAFT_SCRIPT_H
#define TESTS_RAFT_SCRIPT_H

/*
 * Run the script in that file and compare. Returns 0 if it says what is
 * expected; else prints the difference. With REWRITE=1 in the environment,
 * writes what it said into the file instead.
 */
int script_check(const char *path);

#endif
