// The three kinds of rows of the table: of a namespace, of a page, and what an opened page tells.
//
// Each function returns the row's element and a function that brings it up to date.

function groupRow(table, { namespace }) {
  const hue = table.store.hues.get(namespace);
  const gc = h(
    "button",
    {
      class: "ms-button ms-small",
      "aria-label": `Release all of ${namespace}`,
      onclick: () => table.questions.gc(namespace),
    },
    "Release all …",
  );
  const many = h("span", { class: "ms-muted" });
  const element = h("tr", { class: "ms-group" });
  // The name has the room up to the first sum, and the button that behind the last one.
  const sums = table.columns.filter((column) => column.sum);
  const first = table.columns.indexOf(sums[0]);
  const last = table.columns.indexOf(sums.at(-1));
  const name = h(
    "th",
    { class: "ms-c-name", scope: "row", colspan: first },
    h("span", { class: `ms-swatch ms-hue-${hue}`, "aria-hidden": "true" }),
    h("span", { class: "ms-namespace", title: namespace }, namespace),
    " ",
    many,
  );
  const cells = new Map();
  element.append(name);
  for (const column of table.columns.slice(first, last + 1)) {
    const cell = h("td", { class: `ms-c-${column.key} ms-n` });
    if (column.sum) cells.set(column, cell);
    element.append(cell);
  }
  const rest = table.columns.length - last - 1;
  element.append(h("td", { class: "ms-c-actions", colspan: rest }, gc));
  let shown;
  let held;
  const update = ({ pages }) => {
    if (pages !== shown) {
      shown = pages;
      held = pages.some((page) => page.owned || page.viewed);
      setText(many, count(pages.length, "page"));
      for (const [column, cell] of cells)
        setText(cell, column.show(pages.reduce((sum, page) => sum + column.sum(page), 0)));
    }
    gc.disabled = !held || !table.store.alive;
    setAttribute(
      gc,
      "title",
      held
        ? "Release and detach all that this kernel has in it"
        : "This kernel holds nothing of it",
    );
  };
  return { element, update };
}

function pageRow(table, { page }) {
  const cells = new Map();
  const name = pageName(page);
  const open = h(
    "button",
    {
      class: "ms-open",
      "aria-expanded": "false",
      title: name,
      onclick: () => table.toggle(page.uuid),
    },
    h("span", { class: "ms-caret", "aria-hidden": "true" }),
    nameElement(page.variable),
  );
  const release = h(
    "button",
    {
      class: "ms-button ms-small",
      "aria-label": `Release ${name}`,
      onclick: () => table.questions.release(shown),
    },
    "Release",
  );
  const detach = h(
    "button",
    {
      class: "ms-button ms-small",
      "aria-label": `Detach ${name}`,
      onclick: () => table.questions.detach(shown),
    },
    "Detach",
  );
  const element = h("tr", { class: "ms-page", "data-page": name });
  for (const column of table.columns) {
    const css = `ms-c-${column.key}${column.numeric ? " ms-n" : ""}`;
    const cell = h(column.key === "name" ? "th" : "td", {
      class: css,
      scope: column.key === "name" ? "row" : null,
      "data-column": column.key,
    });
    if (column.key === "name") cell.append(open);
    else if (column.key === "actions")
      cell.append(
        release,
        " ",
        detach,
        " ",
        copyButton(table.store, snippet(page), `Copy attach snippet of ${name}`),
      );
    else cells.set(column, cell);
    element.append(cell);
  }
  let shown;
  const update = ({ page: now }) => {
    setAttribute(open, "aria-expanded", table.opened.has(now.uuid));
    allow(table, release, detach, now);
    const at = table.store.now();
    for (const [column, cell] of cells) {
      if (column.key === "age") setText(cell, column.of(now, at));
      else if (now === shown) continue;
      else if (column.key === "holders")
        cell.replaceChildren(h("div", { class: "ms-chips" }, ...chipsOf(now).map(chipElement)));
      else if (column.key === "state") {
        const [sign, about] = STATES[now.state];
        cell.replaceChildren(
          h(
            "span",
            { class: `ms-state ms-${now.state}`, title: about },
            h("span", { "aria-hidden": "true" }, sign),
            h("span", { class: "ms-state-name" }, ` ${now.state}`),
          ),
        );
      } else {
        setText(cell, column.of(now));
        cell.title = cell.textContent;
      }
    }
    shown = now;
  };
  return { element, update };
}

/** Write a name so that what does not fit is left out of its middle: the ends of names differ. */
function nameElement(text) {
  const tail = [...text].length > 12 ? [...text].slice(-8).join("") : "";
  const head = h("span", { class: "ms-name-head" }, tail ? text.slice(0, -tail.length) : text);
  return h("span", { class: "ms-name" }, head, ...(tail ? [h("span", {}, tail)] : []));
}

function detailsRow(table) {
  const facts = h("dl", { class: "ms-facts" });
  const release = h(
    "button",
    { class: "ms-button", onclick: () => table.questions.release(shown) },
    "Release …",
  );
  const detach = h(
    "button",
    { class: "ms-button", onclick: () => table.questions.detach(shown) },
    "Detach …",
  );
  const buttons = h("div", { class: "ms-buttons" }, release, detach);
  const body = h("tbody");
  const heads = [
    ["process"],
    ["pid", "ms-n"],
    ["engine", "ms-n ms-wide"],
    ["host", "ms-wide"],
    ["role"],
    ["since", "ms-n"],
    ["resident (PSS)", "ms-n"],
  ];
  const holders = h(
    "table",
    { class: "ms-holders" },
    h(
      "thead",
      {},
      h("tr", {}, ...heads.map(([text, css]) => h("th", { scope: "col", class: css ?? "" }, text))),
    ),
    body,
  );
  const list = h("div", { class: "ms-holder-list", tabindex: "0", role: "group" }, holders);
  const element = h(
    "tr",
    { class: "ms-details" },
    h(
      "td",
      { colspan: table.columns.length },
      h("div", { class: "ms-details-box" }, facts, list, buttons),
    ),
  );
  const texts = new Map();
  const rows = new Map();
  let shown;
  const update = ({ page }) => {
    const name = pageName(page);
    allow(table, release, detach, page);
    if (!shown) {
      const label = `Copy attach snippet of ${name}`;
      buttons.append(copyButton(table.store, snippet(page), label, "Copy attach snippet"));
      setAttribute(holders, "aria-label", `Holders of ${name}`);
      setAttribute(list, "aria-label", `Holders of ${name}, scrollable`);
      setAttribute(element, "data-details", name);
    }
    shown = page;
    const at = table.store.now();
    // Text that stays the same is left alone: it may be selected, to be copied.
    for (const [term, text] of factsOf(page, at)) {
      if (!texts.has(term)) {
        texts.set(term, h("dd"));
        facts.append(h("div", {}, h("dt", {}, term), texts.get(term)));
      }
      setText(texts.get(term), text);
      texts.get(term).parentElement.hidden = !text;
    }
    const shares = table.store.shares[page.uuid] ?? {};
    // A process that owns and views a page has it in memory once.
    const share = (holder, i) => {
      if (page.holders.findIndex((other) => other.pid === holder.pid) < i) return "as above";
      return shares[holder.pid] === undefined ? "–" : units(shares[holder.pid]);
    };
    const key = (holder) => `${holder.pid} ${holder.role} ${holder.since}`;
    const keys = new Set(page.holders.map(key));
    for (const [one, row] of rows) {
      if (keys.has(one)) continue;
      row.element.remove();
      rows.delete(one);
    }
    for (const [i, holder] of page.holders.entries()) {
      if (!rows.has(key(holder))) rows.set(key(holder), holderRow(table, holder));
      const row = rows.get(key(holder));
      if (body.children[i] !== row.element) body.insertBefore(row.element, body.children[i] ?? null);
      setText(row.since, span(at - holder.since));
      setText(row.share, share(holder, i));
    }
  };
  return { element, update };
}

function factsOf(page, at) {
  return [
    ["page", pageName(page)],
    ["kind", page.kind],
    ["shape", shapeOf(page)],
    ["dtype", page.dtype],
    ["order", page.order],
    ["size", `${units(page.size)} (${number.format(page.size)} B)`],
    ["owner", ownerOf(page)],
    ["mode", page.mode === "r" ? "r: views read only" : "r+: views may write"],
    ["age", span(at - page.created)],
    ["handles", handlesOf(page)],
    ["state", `${page.state}: ${STATES[page.state][1]}`],
  ];
}

function handlesOf(page) {
  const kept = page.holders.filter((holder) => holder.role === "kept").length;
  const views = `${page.holders.length}, of them ${count(viewsOf(page), "view")}`;
  return kept ? `${views}, and ${number.format(kept)} kept mapped for the next call` : views;
}

function holderRow(table, holder) {
  const since = h("td", {
    class: "ms-n",
    title: new Date(holder.since * 1000).toLocaleString(),
  });
  const share = h("td", { class: "ms-n" });
  const element = h(
    "tr",
    {},
    h("th", { scope: "row" }, holder.label || (holder.here ? "this kernel" : "–")),
    h("td", { class: "ms-n" }, `${holder.pid}`),
    h("td", { class: "ms-n ms-wide" }, ENGINE.exec(holder.label)?.[1] ?? "–"),
    h("td", { class: "ms-wide" }, table.store.host),
    h("td", {}, holder.role + (holder.here ? ", this kernel" : "")),
    since,
    share,
  );
  return { element, since, share };
}

/** Say of the two buttons of a page whether they can be used, and if not, why. */
function allow(table, release, detach, page) {
  const { alive } = table.store;
  release.disabled = !alive || !page.owned;
  detach.disabled = !alive || !page.viewed;
  const owner = page.holders.some((holder) => holder.role === "owner");
  const why = owner
    ? `Owned by ${ownerOf(page)}: release it there`
    : "Its owner has let it go already";
  setAttribute(release, "title", page.owned ? "Release: end this kernel's ownership" : why);
  setAttribute(
    detach,
    "title",
    page.viewed ? "Detach: end this kernel's view" : "This kernel has no view of it",
  );
}

function chipElement(chip) {
  const sign = h("span", { "aria-hidden": "true" }, chip.owner ? "◆ " : "");
  return h(
    "span",
    {
      class: `ms-chip${chip.owner ? " ms-owner" : ""}${chip.kept ? " ms-kept" : ""}`,
      title: chip.title,
    },
    sign,
    chip.text,
    chip.owner ? h("span", { class: "ms-hidden" }, " (owner)") : "",
    chip.kept ? h("span", { class: "ms-hidden" }, " (kept for the next call)") : "",
  );
}
