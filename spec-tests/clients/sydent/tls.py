"""TLS in front of Sydent, which speaks none itself: `tls.py PORT CERTIFICATE KEY PORT-OF-SYDENT`."""

import asyncio
import ssl
import sys


async def pour(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    port, certificate, key, target = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def serve(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", int(target))
        await asyncio.gather(pour(reader, back), pour(there, writer))

    # Both families: `localhost` may be either.
    server = await asyncio.start_server(serve, ["127.0.0.1", "::1"], int(port), ssl=context)
    await server.serve_forever()


asyncio.run(main())
