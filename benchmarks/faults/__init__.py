"""Seeded faults and healthy controls: how often is the diagnosis right?"""
