"""The best one-to-one assignment of rows to columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_assignment(gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """Assigns rows to columns, each at most once, so that the sum of the gains is the largest possible.

    By shortest augmenting paths (Jonker and Volgenant, as told by D. F. Crouse, 2016), a row at a time.

    Args:
        gains: (N, M) finite, of any sign.

    Returns:
        (N,) the column of each row; -1 for the rows that are left over where N > M.
    """
    rows, columns = gains.shape
    if rows > columns:
        partners = np.full(rows, -1, np.intp)
        of_columns = best_assignment(gains.T)
        partners[of_columns] = np.arange(columns)
        return partners
    costs = -gains
    row_prices, column_prices = np.zeros(rows), np.zeros(columns)
    column_of, row_of = np.full(rows, -1, np.intp), np.full(columns, -1, np.intp)
    for row in range(rows):
        _assign(row, costs, row_prices, column_prices, column_of, row_of)
    return column_of


def _assign(
    first: int,
    costs: NDArray[np.float64],
    row_prices: NDArray[np.float64],
    column_prices: NDArray[np.float64],
    column_of: NDArray[np.intp],
    row_of: NDArray[np.intp],
) -> None:
    """Assigns one row more, along the cheapest path of reassignments to a free column; changes the arrays."""
    distances = np.full(len(row_of), np.inf)
    """Of the cheapest path to each column that is known."""
    previous = np.full(len(row_of), first, np.intp)
    """The row from which that path comes."""
    reached = np.zeros(len(row_of), bool)
    rows_on_the_way = [first]
    row, so_far = first, 0.0
    while True:
        through = so_far + costs[row] - row_prices[row] - column_prices
        nearer = ~reached & (through < distances)
        distances[nearer], previous[nearer] = through[nearer], row
        column = int(np.argmin(np.where(reached, np.inf, distances)))
        so_far = float(distances[column])
        if row_of[column] < 0:
            break
        reached[column] = True
        row = int(row_of[column])
        rows_on_the_way.append(row)
    row_prices[first] += so_far
    others = rows_on_the_way[1:]
    row_prices[others] += so_far - distances[column_of[others]]
    column_prices[reached] -= so_far - distances[reached]
    while True:
        row = int(previous[column])
        row_of[column] = row
        column_of[row], column = column, int(column_of[row])
        if row == first:
            return
