"""A reverse proxy in a thread: a host below a path and behind a password, as people put theirs on the network."""

import asyncio
import base64
import contextlib
import threading

import aiohttp
from aiohttp import web


@contextlib.contextmanager
def forwarding(target: str, path: str, user: str, password: str):
    """Forward everything below `path` on a free loopback port to `target`; yields the port."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def handle(request):
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401)
        url = target + request.path_qs.removeprefix(path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await forward_socket(request, url)
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            headers = {"Content-Type": request.headers["Content-Type"]} if "Content-Type" in request.headers else {}
            async with session.request(request.method, url, data=await request.read(), headers=headers) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    async def start():
        app = web.Application()
        app.router.add_route("*", path + "/{rest:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        ready.set()

    def serve():
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30)
    yield ports[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def forward_socket(request, url: str):
    """Messages of both sides to the other one, until one of them closes."""
    near = web.WebSocketResponse()
    await near.prepare(request)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as far:
        async def pass_on(source, sink):
            async for message in source:
                await (sink.send_bytes if message.type == aiohttp.WSMsgType.BINARY else sink.send_str)(message.data)

        tasks = [asyncio.ensure_future(pass_on(*pair)) for pair in ((near, far), (far, near))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    return near
