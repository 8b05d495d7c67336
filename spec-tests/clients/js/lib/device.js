// One device of one user: a matrix-js-sdk client with its Rust crypto and stores that outlive a restart of the client.

import "fake-indexeddb/auto";
import {
    ClientEvent,
    EventStatus,
    HttpApiEvent,
    IndexedDBStore,
    MatrixEventEvent,
    SyncState,
    createClient,
} from "matrix-js-sdk";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/index.js";
import { Bell, check, within } from "./check.js";

/** Where users live: bobs on the other server, if there is one. */
const homeOf = (name) => (name.startsWith("bob") && process.env.HS_URL_OF_BOB) || process.env.HS_URL;
const TIMELINE_LIMIT = 8;
const RUN = `${process.pid.toString(36)}${Date.now().toString(36)}`;
let names = 0;

export const quiet = {
    trace() {},
    debug() {},
    info() {},
    warn() {},
    error() {},
    getChild: () => quiet,
};

export const password = (name) => `correct horse ${name}`;

export class Device {
    bell = new Bell();
    /** Set when the server said that the token is unknown. */
    loggedOut = null;
    /** Encrypted to-device messages, in the order received. */
    toDevice = [];
    syncs = 0;
    limited = 0;

    constructor(session, name, slides = false) {
        Object.assign(this, { session, name, slides });
        this.userId = session.user_id;
        this.deviceId = session.device_id;
        this.url = homeOf(name);
    }

    /** Registers a new user; `name` gets a suffix of this run. The device may use sliding sync. */
    static async register(name, slides = false) {
        const username = `${name}_${RUN}_${++names}`;
        const anonymous = createClient({ baseUrl: homeOf(name), logger: quiet });
        const request = {
            username,
            password: password(username),
            initial_device_display_name: `${name} one`,
        };
        const session = await anonymous
            .registerRequest({ ...request, auth: { type: "m.login.dummy" } })
            .catch((error) => {
                if (error.httpStatus !== 401 || !error.data.session) throw error;
                const auth = { type: "m.login.dummy", session: error.data.session };
                return anonymous.registerRequest({ ...request, auth });
            });
        return new Device(session, username, slides).start();
    }

    /** A further device of the same user. */
    async sibling() {
        const session = await createClient({ baseUrl: this.url, logger: quiet }).loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: this.userId },
            password: password(this.name),
            initial_device_display_name: `${this.name} more`,
        });
        return new Device(session, this.name);
    }

    async start() {
        const database = `${this.userId}/${this.deviceId}`;
        this.store = new IndexedDBStore({ indexedDB: globalThis.indexedDB, dbName: database });
        this.client = createClient({
            baseUrl: this.url,
            userId: this.userId,
            deviceId: this.deviceId,
            accessToken: this.session.access_token,
            store: this.store,
            logger: quiet,
            timelineSupport: true,
            fetchFn: (url, options) => this.#fetch(url, options),
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => {
                    check(this.recoveryKey, "the recovery key was asked for before it was given");
                    return [Object.keys(keys)[0], decodeRecoveryKey(this.recoveryKey)];
                },
            },
        });
        const emit = this.client.emit.bind(this.client);
        this.client.emit = (...event) => {
            const heard = emit(...event);
            this.bell.ring();
            return heard;
        };
        this.client.on(HttpApiEvent.SessionLoggedOut, (error) => (this.loggedOut = error));
        await this.store.startup();
        await this.client.initRustCrypto({ cryptoDatabasePrefix: database });
        this.sliding = this.slides ? this.#window([0, 1]) : undefined;
        await this.client.startClient({
            slidingSync: this.sliding,
            initialSyncLimit: TIMELINE_LIMIT,
            lazyLoadMembers: true,
            threadSupport: true,
            pollTimeout: 10_000,
        });
        const from = this.syncs;
        await this.until("sync", () => this.syncs > from && this.client.getSyncState() === SyncState.Syncing);
        return this;
    }

    /** One list of all rooms, seen through a window that may be moved. */
    #window(range) {
        const wanted = {
            timeline_limit: TIMELINE_LIMIT,
            required_state: [
                ["*", "*"],
                ["m.room.member", "$ME"],
                ["m.room.member", "$LAZY"],
            ],
        };
        const lists = new Map([["all", { ...wanted, ranges: [range] }]]);
        return new SlidingSync(this.url, lists, wanted, this.client, 10_000);
    }

    /** Goes away as a closed app does: what it knows stays on its disk. */
    async stop() {
        await this.store.save(true);
        this.client.stopClient();
        await this.store.destroy();
    }

    until(what, condition, ms) {
        const explain = () => `(${this.name}/${this.deviceId}, sync ${this.client.getSyncState()})`;
        return this.bell.until(what, condition, explain, ms);
    }

    async #fetch(url, options) {
        const answer = await fetch(url, options);
        if (!new URL(url).pathname.endsWith("/sync") || !answer.ok) return answer;
        const text = await answer.text();
        const body = JSON.parse(text);
        this.syncs += 1;
        const slid = body.extensions?.to_device?.events;
        for (const event of slid ?? body.to_device?.events ?? []) this.toDevice.push(event);
        for (const room of Object.values(body.rooms?.join ?? {})) this.limited += room.timeline?.limited ? 1 : 0;
        return new Response(text, { status: answer.status, headers: answer.headers });
    }

    /** A request of our own with this device's token; returns status and body. */
    async raw(method, path, body) {
        const answer = await within(
            fetch(this.url + path, {
                method,
                headers: { Authorization: `Bearer ${this.session.access_token}` },
                body: body && JSON.stringify(body),
            }),
            `${method} ${path}`,
        );
        return { status: answer.status, body: await answer.json() };
    }

    get crypto() {
        return this.client.getCrypto();
    }

    async say(roomId, body, threadId = null) {
        const sent = this.client.sendTextMessage(roomId, threadId, body);
        return (await within(sent, `send of "${body}"`)).event_id;
    }

    /** The event, once it has arrived here and is decrypted. */
    event(roomId, eventId) {
        return this.until(`event ${eventId}`, () => {
            const event = this.client.getRoom(roomId)?.findEventById(eventId);
            return event && !event.isEncrypted() ? event : event?.getClearContent() && event;
        });
    }

    /** The timelines that hang together with the live one, oldest first: a gap that was paged over joins two. */
    #timelines(roomId) {
        const chain = [this.client.getRoom(roomId).getLiveTimeline()];
        for (let older; (older = chain[0].getNeighbouringTimeline("b")); ) chain.unshift(older);
        return chain;
    }

    /** Every event of the room that this device holds without a gap up to now. */
    events(roomId) {
        return this.#timelines(roomId).flatMap((timeline) => timeline.getEvents());
    }

    /** Bodies of the messages that this device holds and could read, oldest first; undecrypted ones as "!code". */
    bodies(roomId) {
        return this.events(roomId)
            .filter((event) => event.getType() === "m.room.message" || event.isEncrypted())
            .filter((event) => !event.status || event.status === EventStatus.SENT)
            .map((event) => (event.isDecryptionFailure() ? `!${event.decryptionFailureReason}` : event.getContent().body));
    }

    /** Pages back until the whole room is here, then waits until nothing is being decrypted. */
    async wholeHistory(roomId) {
        for (;;) {
            const [oldest] = this.#timelines(roomId);
            if (oldest.getPaginationToken("b") === null) break;
            const page = this.client.paginateEventTimeline(oldest, { backwards: true, limit: 20 });
            await within(page, "page of older messages");
        }
        // With sliding sync the SDK decrypts older events only when somebody looks at them.
        if (this.slides) await this.client.getRoom(roomId).decryptAllEvents();
        await this.until("decryption of the history", () => this.events(roomId).every((e) => !e.isBeingDecrypted()));
        return this.bodies(roomId);
    }

    /** Waits until this device reads exactly these bodies in this order. */
    async reads(roomId, expected) {
        let seen = [];
        const wanted = JSON.stringify(expected);
        await this.until("the expected messages", () => {
            seen = this.client.getRoom(roomId) ? this.bodies(roomId) : [];
            return JSON.stringify(seen) === wanted;
        }).catch((error) => {
            throw new Error(`${error.message}: read ${JSON.stringify(seen)}, expected ${wanted}`);
        });
    }

    /** No encrypted to-device message was handed to this device twice. */
    checkToDeviceOnce() {
        const seen = new Set();
        for (const event of this.toDevice) {
            const key = JSON.stringify(event);
            check(!seen.has(key), `${this.name}: a to-device message was delivered twice: ${event.type}`);
            seen.add(key);
        }
    }

    password() {
        return password(this.name);
    }

    /** Answers a user-interactive request by password. */
    get byPassword() {
        return (request) =>
            request(null).catch((error) => {
                if (error.httpStatus !== 401 || !error.data.session) throw error;
                return request({
                    type: "m.login.password",
                    identifier: { type: "m.id.user", user: this.userId },
                    password: this.password(),
                    session: error.data.session,
                });
            });
    }
}

export { ClientEvent, MatrixEventEvent };
