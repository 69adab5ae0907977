/*
 * walfile.h - the write-ahead log of an SQLite database, as a file.
 */
#ifndef PAWL_WALFILE_H
#define PAWL_WALFILE_H

#include <sqlite3.h>

/*
 * Make true what recovery finds. The last process may have written frames
 * whose sync failed: they look fine until the power goes, and to sync again
 * would not help, since after a failure the kernel takes them for clean. What
 * is written behind them would be lost with them, synced or not. So they are
 * written once more, and synced. Call it after opening, before the first
 * write. Returns SQLite's code.
 */
int walfile_write_again(sqlite3 *db);

#endif
