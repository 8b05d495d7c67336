// Assertions, and waits that are woken by events and bounded by a deadline.

export const DEADLINE_MS = Number(process.env.DEADLINE_MS ?? 30_000);

export function check(condition, what) {
    if (!condition) throw new Error(what);
}

export function same(actual, expected, what) {
    const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
    check(a === e, `${what}: got ${a}, expected ${e}`);
}

/** Fails when `promise` has not settled by the deadline. */
export function within(promise, what, ms = DEADLINE_MS) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Re-evaluates conditions whenever somebody pokes it. */
export class Bell {
    #waiting = new Set();

    ring() {
        for (const test of [...this.#waiting]) test();
    }

    /** Resolves with the first truthy value of `condition`, which may be asynchronous. */
    until(what, condition, explain = () => "", ms = DEADLINE_MS) {
        return new Promise((resolve, reject) => {
            let running = false;
            let again = false;
            const settle = (finish, value) => {
                clearTimeout(timer);
                this.#waiting.delete(test);
                finish(value);
            };
            const test = async () => {
                if (running) {
                    again = true;
                    return;
                }
                running = true;
                try {
                    do {
                        again = false;
                        const value = await condition();
                        if (value) return settle(resolve, value);
                    } while (again);
                } catch (error) {
                    settle(reject, error);
                } finally {
                    running = false;
                }
            };
            const timer = setTimeout(
                () => settle(reject, new Error(`no ${what} within ${ms} ms ${explain()}`)),
                ms,
            );
            this.#waiting.add(test);
            test();
        });
    }
}
