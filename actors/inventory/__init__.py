"""The box's room: who stands on its floor, what each may have now, and which queue may fetch."""

from actors.inventory.actor import Inventory, InventoryMessage

__all__ = ["Inventory", "InventoryMessage"]
