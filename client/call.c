/*
 * call.c - one call of the library: attempts at one endpoint after the other,
 * until one is answered, the rules of retry.c say stop, or the time is up.
 *
 *              start
 *                |
 *                v      on_close: retry
 *           +-> flying --------------------> resting
 *           |      |                            |
 *           |      | on_close: an answer,       | timer
 *           |      |   or no retry              |
 *           |      v                            |
 *           |    done                           |
 *           +-----------------------------------+
 *
 * flying: rpc is set. resting: the timer is pending. done: neither.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <string.h>

#define TRY_MIN_MS 20 /* with less time left there is no other attempt */

struct call {
    struct pawl *p;
    const struct request *request;
    struct rpc_call *rpc;
    struct event *timer;
    uint64_t start_ms, deadline_ms; /* of clock_ms(); NO_DEADLINE */
    size_t endpoint;                /* of this attempt, or of the last */
    size_t n_endpoints;             /* to choose from */
    unsigned attempts;              /* begun */
    bool done;
    char *before; /* why the last attempt failed that was not for time */
    struct reply reply;
};

static uint64_t remaining_ms(const struct call *c)
{
    uint64_t now = clock_ms();

    if (c->deadline_ms == NO_DEADLINE) {
        return NO_DEADLINE;
    }
    return c->deadline_ms > now ? c->deadline_ms - now : 0;
}

static void on_message(struct rpc_call *rpc, const ProtobufCMessage *m)
{
    struct call *c = rpc_call_context(rpc);

    if (c->reply.result == NULL && c->request->convert != NULL) {
        c->reply.result = c->request->convert(m);
    }
}

static const char *applied_text(const struct call *c, enum pawl_status status)
{
    if (c->request->retry != RETRY_IF_NOT_APPLIED) {
        return "";
    }
    if (status == PAWL_MAYBE_APPLIED) {
        return "maybe applied: ";
    }
    return status == PAWL_UNAVAILABLE || status == PAWL_TIMEOUT
               ? "not applied: "
               : "";
}

static void forget(struct call *c)
{
    free(c->before);
    c->before = NULL;
}

static const char *outcome_text(const struct outcome *o)
{
    if (o->code == GRPC_DEADLINE_EXCEEDED && o->text != NULL &&
        strcmp(o->text, "context deadline exceeded") == 0) {
        return "no answer in time"; /* plainer than gRPC's words */
    }
    return o->text != NULL && o->text[0] != '\0' ? o->text
                                                 : grpc_code_name((int)o->code);
}

/* One line for pawl_error(). The server's own words stay as they are. */
static void say_failure(struct call *c, const struct outcome *o,
                        enum pawl_status status)
{
    const char *address = c->p->endpoints.addresses[c->endpoint];
    const char *text = outcome_text(o);

    if (status != PAWL_UNAVAILABLE && status != PAWL_TIMEOUT &&
        status != PAWL_MAYBE_APPLIED && status != PAWL_INTERNAL) {
        pawl_fail(c->p, status, "%s", text);
        return;
    }
    if (o->code != GRPC_DEADLINE_EXCEEDED) {
        forget(c); /* this one says as much */
    }
    pawl_fail(c->p, status, "%s%s: %s (%u attempt%s in %llu ms%s%s)",
              applied_text(c, status), address, text, c->attempts,
              c->attempts > 1 ? "s" : "",
              (unsigned long long)(clock_ms() - c->start_ms),
              c->before != NULL ? "; before: " : "",
              c->before != NULL ? c->before : "");
}

static void finish(struct call *c, enum pawl_status status)
{
    if (status != PAWL_OK) {
        pawl_free(c->reply.result);
        c->reply.result = NULL;
    }
    c->reply.status = status;
    c->done = true;
}

/* To the next endpoint after a while. False: there is no time for it. */
static bool rest(struct call *c, bool wait)
{
    uint64_t remaining = remaining_ms(c);
    uint64_t delay =
        retry_delay_ms(c->attempts, c->n_endpoints, wait, random_u64());
    struct timeval tv;

    if (remaining < TRY_MIN_MS) {
        return false;
    }
    if (delay > remaining / 2) {
        delay = remaining / 2; /* leave time for the attempt itself */
    }
    if (c->n_endpoints > 1) {
        c->endpoint = (c->endpoint + 1) % c->n_endpoints;
    }
    tv = (struct timeval){
        .tv_sec = (time_t)(delay / 1000),
        .tv_usec = (suseconds_t)(delay % 1000) * 1000,
    };
    evtimer_add(c->timer, &tv);
    return true;
}

static void remember(struct call *c, const struct outcome *o)
{
    if (o->code != GRPC_DEADLINE_EXCEEDED) {
        forget(c);
        c->before = mem_printf("%s: %s", c->p->endpoints.addresses[c->endpoint],
                               o->text != NULL ? o->text : "");
    }
}

static void on_close(struct rpc_call *rpc, enum grpc_code code,
                     const char *text, bool maybe_processed)
{
    struct call *c = rpc_call_context(rpc);
    struct outcome o = {code, text, maybe_processed};
    struct verdict v;

    c->rpc = NULL;
    c->reply.code = code;
    if (c->done) {
        return; /* interrupted */
    }
    if (code == GRPC_OK && c->reply.result == NULL &&
        c->request->convert != NULL) {
        o.code = GRPC_INTERNAL;
        o.text = "the server ended the call without an answer";
    }
    v = retry_judge(c->request->retry, &o);
    c->reply.uncertain |= v.applied_unknown;
    if (v.retry) {
        pawl_free(c->reply.result); /* of an attempt that then broke */
        c->reply.result = NULL;
        remember(c, &o);
        if (rest(c, v.wait)) {
            return;
        }
    }
    if (v.status != PAWL_OK) {
        say_failure(c, &o, v.status);
    }
    finish(c, v.status);
}

static const struct rpc_call_events call_events = {on_message, on_close};

static void attempt(struct call *c)
{
    const struct request *r = c->request;
    uint64_t remaining = remaining_ms(c);
    uint64_t timeout =
        retry_attempt_ms(r->waits ? RETRY_IF_NOT_APPLIED : r->retry,
                         remaining > 0 ? remaining : 1, c->n_endpoints);

    c->attempts++;
    if (r->endpoint == ANY_ENDPOINT) {
        c->p->current = c->endpoint;
    }
    if (r->prepare != NULL) {
        r->prepare(r->context, remaining);
    }
    c->rpc =
        rpc_call_start(pawl_channel(c->p, c->endpoint), r->path, r->response,
                       r->metadata, r->n_metadata, timeout, &call_events, c);
    rpc_call_send(c->rpc, r->message);
    rpc_call_half_close(c->rpc);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    attempt(context);
}

static void call_init(struct call *c, struct pawl *p, const struct request *r)
{
    uint64_t timeout = r->timeout_ms > 0 ? r->timeout_ms : p->call_timeout_ms;
    bool any = r->endpoint == ANY_ENDPOINT;

    *c = (struct call){
        .p = p,
        .request = r,
        .start_ms = clock_ms(),
        .endpoint = any ? p->current : r->endpoint,
        .n_endpoints = any ? p->endpoints.n : 1,
    };
    c->deadline_ms =
        timeout == NO_DEADLINE ? NO_DEADLINE : c->start_ms + timeout;
    c->timer = evtimer_new(p->base, on_timer, c);
    ASSERT(c->timer != NULL);
    pawl_fail(p, PAWL_OK, "%s", "");
}

static void call_release(struct call *c)
{
    event_free(c->timer);
    forget(c);
}

static void interrupt(struct call *c)
{
    pawl_fail(c->p, PAWL_TIMEOUT, "interrupted");
    finish(c, PAWL_TIMEOUT);
    if (c->rpc != NULL) {
        rpc_call_cancel(c->rpc);
    }
}

struct reply call_run(struct pawl *p, const struct request *r)
{
    struct call c;

    /* A connection that was lost while the program did other things is found
     * out now, before a write is sent over it. */
    event_base_loop(p->base, EVLOOP_NONBLOCK);
    rpc_loop_flush(p->loop);

    call_init(&c, p, r);
    attempt(&c);
    rpc_loop_flush(p->loop);
    while (!c.done && !p->interrupted) {
        event_base_loop(p->base, EVLOOP_ONCE);
        rpc_loop_flush(p->loop);
    }
    if (!c.done) {
        interrupt(&c);
    }
    call_release(&c);
    return c.reply;
}

enum pawl_status call_run_into(struct pawl *p, const struct request *r,
                               void *result)
{
    struct reply reply = call_run(p, r);

    result_give(reply.result, result);
    return reply.status;
}
