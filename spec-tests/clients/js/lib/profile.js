// Browser profiles in folders of their own, which can be closed and opened again, and the two users in them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { chromium } from "playwright-core";
import { picture, program } from "./browser.js";
import { DEADLINE_MS } from "./check.js";
import { Device } from "./device.js";

export class Profile {
    #folder = mkdtempSync(`${tmpdir()}/lockstep-profile-`);
    #running;

    /** `device` is another one of the same user, which is not running. */
    constructor(name, device) {
        Object.assign(this, { name, device, user: device.name, userId: device.userId });
    }

    /** Starts the browser, and opens the page at `url`. */
    async open(url) {
        const viewport = { width: 1000, height: 700 };
        this.#running = await chromium.launchPersistentContext(this.#folder, { ...program(), viewport });
        [this.page] = this.#running.pages();
        this.#running.setDefaultTimeout(DEADLINE_MS);
        await this.page.goto(url);
    }

    tab() {
        return this.#running.newPage();
    }

    picture(name) {
        return picture(this.page, `${this.name}-${name}`);
    }

    close() {
        return this.#running.close();
    }

    async erase() {
        await this.#running?.close();
        rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
    }
}

/** Has alice and bob, each in a profile at `site`, `play`; both are registered, and not signed in there. */
export async function inTwoProfiles(site, play) {
    const profiles = [];
    try {
        for (const name of ["alice", "bob"]) {
            const device = await Device.register(name);
            await device.stop();
            profiles.push(new Profile(name, device));
            await profiles.at(-1).open(site.origin);
        }
        await play(...profiles);
    } catch (error) {
        for (const profile of profiles) await profile.picture("failed").catch(() => {});
        throw error;
    } finally {
        for (const profile of profiles) await profile.erase();
        site.close();
    }
}
