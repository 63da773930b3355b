-- The usual case, compiled: continues feature_scans.lua.

-- Events that come in time order, whose values are whole hundredths and fit the layout, are folded
-- by a function that is written for their plan and layout: an entity's head lies in local variables
-- and one `pack` makes what is written. For anything else it returns nil, having changed nothing
-- that the general code does not set again.

-- Most numbers of a row and an event: Lua has 250 registers, for the variables and for the
-- arguments of one `pack`.
local NUMBERS = 90

local FUNCTION = [[
local read, pack, sub, find, rep, zeros, room_of, plan, widths, look, layout = ...
return function(old, records, at, count, slot, step, answers, repeated)
  local base, last, m, saved, held, mode, $head = read('$format', old, #old - $ending + 1)
  if held + count > $most then return end
  local from, total, tail, kept, ids = held * $size, held, '', '', ''
  local offset, more, $record
  $memo
  for event = 1, count do
    $record, at = read('$read', records, at)
    if exact ~= 1 or time < last or time - base > $reach or repeated[row] $unfit then return end
    $known
    local older = total   -- the newest entry is not of any other age
    offset, total, last = time - base, total + 1, time
    $edges
    $look
    if event < count then
      answers[row * step + slot] = pack('$row', 0, $head) $more
      tail = tail .. pack('$entry', offset $values) $raw
      $keep
    end
  end
  $forget
  local place, room, body = from, #old - $ending - from - #tail - $size - m * 8
  if room < 0 or last - saved >= $refresh then
    local gone = $oldest
    if gone > held then return end
    body, place, saved, total = sub(old, gone * $size + 1, from), nil, last, total - gone
    $cut
    room = room_of(plan, $size, total)
  end
  local bytes = pack('$whole', tail, offset $values $bytes, kept, ids $id, zeros[room] or rep('\0', room),
    base, last, m, saved, total, 0, $head, widths)
  answers[row * step + slot] = sub(bytes, $from, $to) $more
  if body then bytes = body .. bytes end
  return bytes, place
end]]

local EDGE = [[
    while c$edge < older do
      local entries, place = old, c$edge * $size + 1
      if c$edge >= held then entries, place = tail, (c$edge - held) * $size + 1 end
      local seconds $stored = read('$entry', entries, place)
      if seconds > offset - $age then break end
      c$edge = c$edge + 1
      $add
    end
]]

local LOOK = [[
    more = look(plan, layout, old, held, tail .. pack('$entry', offset $values) $raw, offset,
      { $counts }, memo)
]]

local KNOWN = [[
    if slot == 1 and (find(old, id, from + 1, true) or find(ids, id, 1, true)) then return end
]]

local FORGET = [[
  local gone = m + count - total + c$remembered
  if gone < 0 then gone = 0 end
  if gone < m then kept = sub(old, from + gone * 8 + 1, from + m * 8)
  elseif gone > m then ids = sub(ids, (gone - m) * 8 + 1) end
  m = m + count - gone
]]

local function fill(template, names)
  return (gsub(template, '%$(%a+)', names))
end

local function list(pattern, first, last, separator)
  local items = {}
  for number = first, last do items[#items + 1] = (gsub(pattern, '#', number)) end
  return concat(items, separator or '')
end

-- The function for a plan and an exact layout; nil where a row has too many numbers.
function straight(plan, layout)
  local columns, edges = plan.columns, plan.edges
  if (edges + 1) * plan.stride > NUMBERS then return nil end
  local names = {
    format = layout.head, ending = layout.ending, size = layout.size, entry = layout.entry,
    read = plan.record, reach = plan.reach, refresh = plan.refresh, row = layout.row,
    most = MOST, oldest = 'c' .. edges, values = list(', v#', 1, min(layout.stored, plan.values)),
    stored = list(', w#', 1, layout.stored),
    whole = '<c0' .. sub(layout.entry, 2) .. (plan.raw > 0 and 'c' .. plan.raw or '') .. 'c0c0' .. (plan.remember > 0 and 'c8' or '') .. 'c0'
      .. sub(layout.head, 2) .. 'c0',
    from = size_of(layout.head) - size_of('<' .. HEAD) + columns, to = -columns - 1,
    known = '', forget = '', keep = '', id = '', unfit = '', look = '', more = '', raw = '', memo = '',
    bytes = '',
  }
  names.from = -names.from
  names.record = 'time, row, exact' .. (plan.remember > 0 and ', id' or '')
    .. list(', v#', 1, plan.values) .. (plan.raw > 0 and ', raw' or '')
  names.values = names.values .. rep(', 0', layout.stored - plan.values)
  for column = 1, plan.values do
    names.unfit = names.unfit .. fill(' or v$c > $limit or v$c < -$limit',
      { c = column, limit = layout.limit[column] })
  end
  local head, steps, cut = {}, {}, {}
  for edge = 1, edges do
    local sums = list(', s' .. edge .. 'x#', 1, columns)
    head[edge] = 'c' .. edge .. sums
    names.edge, names.age = edge, plan.ages[edge]
    if plan.ages[edge] == 0 then   -- counts every entry, without a look
      steps[edge] = 'c' .. edge .. ' = total\n'
        .. list(fill('s$edgex# = s$edgex# + v#\n', { edgex = edge .. 'x' }), 1, plan.values)
    else
      names.add = list(fill('s$edgex# = s$edgex# + w#\n', { edgex = edge .. 'x' }), 1, layout.stored)
      steps[edge] = fill(EDGE, names)
    end
    cut[edge] = fill('c$edge = c$edge - gone\n', names)
      .. list(fill('s$edgex# = s$edgex# - s$oldestx#\n',
        { edgex = edge .. 'x', oldestx = edges .. 'x' }), 1, columns)
    if plan.ages[edge] == plan.remember then names.remembered = edge end
  end
  if plan.raw > 0 then names.raw, names.bytes = '.. raw', ', raw' end
  if #plan.scans > 0 then
    names.counts = list('c#', 1, edges, ', ')
    names.look, names.more, names.memo = fill(LOOK, names), '.. more', 'local memo = {}'
  end
  if plan.remember > 0 then
    names.known, names.forget = KNOWN, fill(FORGET, names)
    names.keep, names.id = 'ids = ids .. id', ', id'
  end
  names.head, names.edges, names.cut = concat(head, ', '), concat(steps), concat(cut)
  return compile(fill(FUNCTION, names))(read, pack, sub, find, rep, ZEROS, room_of, plan,
    layout.widths, look, layout)
end
