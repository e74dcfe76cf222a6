"""A WSGI application that calls other systems: a path for each library, the addresses in the query."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import otel_canonical

#: Clients that stay for the next request.
kept = {}


def with_requests(at):
    import requests

    requests.get(at["http"], timeout=10)


def with_urllib(at):
    import urllib.request

    urllib.request.urlopen(at["http"], timeout=10).read()


def with_urllib3(at):
    import urllib3

    urllib3.PoolManager().request("GET", at["http"])


def with_httpx(at):
    import httpx

    with httpx.Client() as client:
        client.get(at["http"])


def with_httpx_async(at):
    import httpx

    async def call():
        async with httpx.AsyncClient() as client:
            await client.get(at["http"])

    asyncio.run(call())


def with_aiohttp(at):
    import aiohttp

    async def call():
        async with aiohttp.ClientSession() as session, session.get(at["http"]) as answer:
            await answer.read()

    asyncio.run(call())


def with_redis(at):
    import redis

    client = redis.Redis(port=int(at["redis"]))
    client.set("a", 1)
    client.get("a")
    client.pipeline().execute()  # nothing is in it
    client.pipeline().get("a").get("b").execute()


def with_redis_cluster(at):
    import redis

    if "cluster" not in kept:  # it asks for the cluster's layout when it is made
        kept["cluster"] = redis.RedisCluster(host="127.0.0.1", port=int(at["cluster"]))
    client = kept["cluster"]
    client.set("a", 1)
    client.get("a")


def with_celery(at):
    from celery import Celery

    app = Celery("shop", broker=f"redis://127.0.0.1:{at['redis']}/0")

    def pack():
        pass

    app.task(pack, name="shop.pack").apply_async()


def with_confluent_kafka(at):
    import confluent_kafka

    # A broker of librdkafka's own, for tests: it speaks the protocol on a port of this machine.
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": "127.0.0.1", "test.mock.num.brokers": 1}
    )
    producer.produce("orders", b"one")
    producer.flush(10)


def with_elasticsearch(at):
    import elasticsearch

    client = elasticsearch.Elasticsearch(at["elasticsearch"])
    client.search(index="books", query={"match_all": {}})


def with_boto3(at):
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=at["s3"],
        region_name="eu-west-1",
        aws_access_key_id="for-tests",
        aws_secret_access_key="for-tests",
    )
    client.list_buckets()


def with_grpc(at):
    import grpc

    with grpc.insecure_channel(at["grpc"]) as channel:
        channel.unary_unary("/shop.Prices/Get")(b"one", timeout=10)


def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    at = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    globals()[f"with_{name}"](at)
    otel_canonical.set("done", name)
    start_response("200 OK", [])
    return [b"done"]
