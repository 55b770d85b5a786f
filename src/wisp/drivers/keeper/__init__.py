"""Talks to the keeper, the small process that holds what must outlive a controller.

``client`` speaks its protocol, ``process`` starts it and tells whether it lives, ``namespaces`` enters
what it holds. ::

    identity = await start_keeper(binary, directory)
    async with await KeeperClient.connect(directory) as keeper:
        child = await keeper.spawn(SpawnOrder(child_id="web-1", argv=("/usr/bin/env",)))
"""
