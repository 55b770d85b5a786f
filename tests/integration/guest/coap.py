"""Sends measurements to an aggregator with aiocoap; prints the code of each answer as JSON."""

import asyncio
import json
import sys

import aiocoap

SENT = ("m/a 21.5", "m/b 1", "m/co2-1 1500", "m/one-too-many 1", "m/a hot", "nowhere 1")


async def main() -> None:
    """Send each and wait for its answer."""
    client = await aiocoap.Context.create_client_context()
    codes = {}
    for line in SENT:
        path, payload = line.split()
        uri = f"coap://{sys.argv[1]}/{path}"
        request = aiocoap.Message(code=aiocoap.POST, uri=uri, payload=payload.encode())
        codes[line] = (await client.request(request).response).code.dotted
    print(json.dumps(codes))
    await client.shutdown()


asyncio.run(main())
