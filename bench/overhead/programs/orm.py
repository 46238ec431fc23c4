"""An ORM load: SQLAlchemy over SQLite in memory.

50,000 rows are written, then all are loaded as related objects, which are kept.
"""

from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

CUSTOMERS = 5_000
ORDERS = 9


class Base(DeclarativeBase):
    """The registry of the two tables."""


class Customer(Base):
    """One of 5,000, with its nine orders."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    orders: Mapped[list["Order"]] = relationship(back_populates="customer")


class Order(Base):
    """One of 45,000."""

    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    item: Mapped[str]
    price: Mapped[float]
    customer: Mapped[Customer] = relationship(back_populates="orders")


def main() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for n in range(CUSTOMERS):
            orders = [Order(item=f"item {n} {i}", price=n + i / 10) for i in range(ORDERS)]
            session.add(Customer(name=f"customer {n}", email=f"{n}@example.org", orders=orders))
        session.commit()
    with Session(engine) as session:
        loaded = session.scalars(select(Customer).options(selectinload(Customer.orders))).all()
        assert sum(len(customer.orders) for customer in loaded) == CUSTOMERS * ORDERS


main()
