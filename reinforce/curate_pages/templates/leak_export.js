"use strict";
{
  const review = document.getElementById("leak-review");
  const rows = [...review.querySelectorAll("[data-before]")];
  const others = review.dataset.others ? review.dataset.others.split("\n") : [];
  const decision = row => row.querySelector("input:checked").value;

  const csv = () => {
    const shown = rows.map(row => row.dataset.before + decision(row) + row.dataset.after);
    return "\ufeff" + [review.dataset.header, ...shown, ...others, ""].join("\r\n");
  };

  const count = () => {
    for (const total of review.querySelectorAll("[data-total]"))
      total.textContent = Number(total.dataset.others) + rows.filter(row => decision(row) === total.dataset.total).length;
  };

  const button = document.getElementById("export");
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = review.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    document.getElementById("exported").hidden = false;
  });
  review.addEventListener("change", count);
  button.disabled = false;
  count();
}
