"""Namespaces, links, taps and routes over netlink; the delay line."""
