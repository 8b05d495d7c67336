// Two users verify each other by emoji, in their encrypted room; every device of each then trusts the other user.

import { compareEmoji, incomingRequest } from "../lib/verify.js";
import { end, secure, world } from "../lib/world.js";

export default async function () {
    const { phone, bob, devices, id } = await world({ secure: true });
    await secure(bob);
    for (const [device, other] of [[phone, bob], [bob, phone]]) {
        await device.until("the other's keys", () => device.crypto.userHasCrossSigningKeys(other.userId, true));
    }
    const asked = await phone.crypto.requestVerificationDM(bob.userId, id);
    const heard = await incomingRequest(bob, (request) => request.otherUserId === phone.userId);
    await compareEmoji([phone, asked], [bob, heard]);
    for (const [device, other] of [[phone, bob], [bob, phone]]) {
        await device.until("trust in the other user", async () =>
            (await device.crypto.getUserVerificationStatus(other.userId)).isVerified());
    }
    await end(...devices);
}
